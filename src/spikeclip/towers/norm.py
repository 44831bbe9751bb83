"""Linear maps and convolutions, each followed by the BatchNorm that lowering folds into it."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from spikeclip.towers.recompute import second_time
from spikeclip.towers.synapses import Conv2d, Linear


class BatchNorm(nn.Module):
    """Batch normalisation over axis 1, with statistics over all processes and, with a mask, over unmasked rows only.

    x_RC...: (rows, channels, ...). mask_R: rows that count, for inputs (rows, channels). `gain=False` keeps
    the learned scale at 1. `momentum` is the share of the newest batch in the running statistics.
    """

    def __init__(self, channels: int, momentum: float = 0.1, gain: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        if gain:
            self.weight = nn.Parameter(torch.ones(channels))
        else:
            self.register_buffer("weight", torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x_RC: Tensor, mask_R: Tensor | None = None) -> Tensor:
        momentum = 0.0 if second_time() else self.momentum
        if not self.training or (mask_R is None and _world_size() == 1):
            return F.batch_norm(
                x_RC,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                self.training,
                momentum,
                self.eps,
            )
        return self._shared(x_RC, mask_R, momentum)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return what it is in evaluation, x * scale + shift, as float64 (channels,) each."""
        scale = self.weight.double() / (self.running_var.double() + self.eps).sqrt()
        return scale, self.bias.double() - self.running_mean.double() * scale

    @torch.no_grad()
    def become_identity(self) -> None:
        """Change nothing in evaluation any more: scale 1, shift 0."""
        self.weight.fill_(1)
        self.bias.zero_()
        self.running_mean.zero_()
        self.running_var.fill_(1 - self.eps)

    @property
    def is_folded(self) -> bool:
        """Whether it has the statistics of `become_identity`, which were folded into weights and not measured."""
        return bool((self.running_var == 1 - self.eps).all())

    def _shared(self, x_RC: Tensor, mask_R: Tensor | None, momentum: float) -> Tensor:
        shape = (1, -1) + (1,) * (x_RC.ndim - 2)
        axes = [0, *range(2, x_RC.ndim)]
        x = x_RC.to(self.running_mean.dtype)
        weight = x.new_ones(1) if mask_R is None else mask_R.to(x.dtype)[:, None]
        count = weight.sum() if mask_R is not None else x.new_tensor(x.numel() / x.shape[1])
        sums = torch.cat([(x * weight).sum(axes) if mask_R is not None else x.sum(axes), count[None]])
        sums = _sum_over_processes(sums)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x - mean.view(shape)
        squares = (centred.square() * weight).sum(axes) if mask_R is not None else centred.square().sum(axes)
        var = _sum_over_processes(squares) / count
        with torch.no_grad():
            unbiased = var * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(unbiased, momentum)
        scale = self.weight / (var + self.eps).sqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x_RC.dtype)


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _sum_over_processes(x: Tensor) -> Tensor:
    if _world_size() == 1:
        return x
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(x)


class ConvBN(nn.Module):
    """Convolution and BatchNorm over (T, B, C, H, W), with an optional max-pool of `pool_first` in between.

    reads_pixels: whether it reads pictures or recordings; else it reads spikes, and `int8_weights` rounds its weights.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        pool_first: int | None = None,
        momentum: float = 0.1,
        gain: bool = True,
        reads_pixels: bool = False,
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d if reads_pixels else Conv2d
        self.conv = convolution(inputs, outputs, 3, padding=1, bias=False)
        self.bn = BatchNorm(outputs, momentum, gain)
        self.pool_first = pool_first

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        return self.normalize(self.convolve(x_TBCHW))

    def convolve(self, x_TBCHW: Tensor) -> Tensor:
        return self.conv(x_TBCHW.flatten(0, 1)).unflatten(0, x_TBCHW.shape[:2])

    def normalize(self, x_TBCHW: Tensor) -> Tensor:
        x = x_TBCHW.flatten(0, 1)
        if self.pool_first:
            x = F.max_pool2d(x, self.pool_first)
        return self.bn(x).unflatten(0, x_TBCHW.shape[:2])


class LinearBN(nn.Module):
    """Linear map and BatchNorm over tokens (T, B, N, C); masked tokens do not enter the statistics."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.linear = Linear(inputs, outputs, bias=bias)
        self.bn = BatchNorm(outputs)

    def forward(self, x_TBNC: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        return self.normalize(self.linear(x_TBNC), mask_BN)

    def normalize(self, x_TBNC: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        mask_R = None if mask_BN is None else mask_BN.expand(x_TBNC.shape[:3]).flatten()
        return self.bn(x_TBNC.flatten(0, 2), mask_R).view(x_TBNC.shape)
