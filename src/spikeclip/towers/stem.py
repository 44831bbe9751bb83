"""What turns pixels into the first spikes: the published five-convolution stem, and whitening."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeclip.config import NeuronConfig
from spikeclip.neurons import make_neuron
from spikeclip.towers.norm import ConvBN
from spikeclip.towers.recompute import recomputed


class Stem(nn.Module):
    """Five 3x3 convolutions with BatchNorm, two of them followed by a 3x3/2 max-pool (Spikingformer).

    (1, B, channels, H, W) -> (T, B, C, H/4, W/4), real-valued. A picture does not change over time, so the first
    convolution and its BatchNorm run once and are broadcast; a recording has T frames instead of one.
    """

    def __init__(self, widths: tuple[int, ...], neuron: NeuronConfig, channels: int = 3) -> None:
        super().__init__()
        self.T = neuron.T
        self.convs = nn.ModuleList([ConvBN(channels, widths[0], reads_pixels=True)])
        self.convs.extend(ConvBN(i, o) for i, o in pairwise(widths))
        self.spikes = nn.ModuleList(make_neuron(neuron) for _ in widths[:-1])

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        x_TBCHW = self._conv(0).convolve(x_TBCHW)
        for i in range(len(self.spikes)):
            x_TBCHW = recomputed(self._next, x_TBCHW, i)
        return self._conv(-1).normalize(x_TBCHW)

    def _conv(self, i: int) -> ConvBN:
        return self.convs[i]  # type: ignore[return-value]

    def _next(self, x_TBCHW: Tensor, i: int) -> Tensor:
        """Return the output of convolution i + 1 from that of convolution i."""
        x_TBCHW = self._conv(i).normalize(x_TBCHW)
        if i == 0:
            x_TBCHW = x_TBCHW.expand(self.T, -1, -1, -1, -1)
        if i >= 2:
            x_TBCHW = F.max_pool2d(x_TBCHW.flatten(0, 1), 3, 2, 1).unflatten(0, x_TBCHW.shape[:2])
        return self._conv(i + 1).convolve(self.spikes[i](x_TBCHW))


class Whitening(nn.Module):
    """A fixed 2x2 convolution that whitens patches: filters and their negatives, channels -> 8 times as many.

    Until `fit` is called the filters are a random orthogonal set. (Keller Jordan, airbench94.)
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        patch = 4 * channels
        basis = torch.linalg.qr(torch.randn(patch, patch))[0].view(patch, channels, 2, 2)
        self.filters: Tensor
        self.register_buffer("filters", basis.new_empty(2 * patch, channels, 2, 2))
        self.filters[:patch] = self.filters[patch:] = basis
        self.filters[patch:].mul_(-1)

    @torch.no_grad()
    def fit(self, x_BCHW: Tensor, eps: float = 5e-4) -> None:
        """Set the filters from normalised pictures: eigenvectors of the patch covariance, scaled to unit variance."""
        patch = self.filters[0].numel()
        products, sums, count = torch.zeros(patch, patch).double(), torch.zeros(patch).double(), 0
        for chunk in x_BCHW.split(500):  # the patches of all pictures at once would fill a gigabyte
            patches = F.unfold(chunk.double(), 2).transpose(0, 1).flatten(1)
            products += patches @ patches.T
            sums += patches.sum(1)
            count += patches.shape[1]
        covariance = (products - sums.outer(sums) / count) / (count - 1)
        values, vectors = torch.linalg.eigh(covariance)
        basis = (vectors / (values + eps).sqrt()).T.flip(0).view(patch, *self.filters.shape[1:])
        self.filters.copy_(torch.cat([basis, -basis]))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.conv2d(x_BCHW, self.filters)
