"""The separable tower: EfficientNet-Lite's inverted residual blocks with a neuron before every convolution.

Tan and Le, EfficientNet (arXiv 1905.11946, table 1), in the Lite variant: no squeeze-and-excitation, ReLU6, stem and
head of one width in every size. With ReLU neurons it is the ordinary network itself.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from spikeclip.config import ImageConfig, NeuronConfig
from spikeclip.errors import InputError
from spikeclip.neurons import Neuron, make_channel_neuron
from spikeclip.towers.norm import BatchNorm
from spikeclip.towers.readout import Readout
from spikeclip.towers.synapses import Conv2d

CEILING = 6.0
"""Of the ordinary network's ReLU6."""


class Stage(NamedTuple):
    kernel: int
    stride: int
    expansion: int


STAGES = (
    Stage(3, 1, 1),
    Stage(3, 2, 6),
    Stage(5, 2, 6),
    Stage(3, 2, 6),
    Stage(5, 1, 6),
    Stage(5, 2, 6),
    Stage(3, 1, 6),
)
"""Of every size; a stage's stride is that of its first block."""


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after a row of `side`, as TensorFlow's SAME: ceil(side / stride) outputs."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class SeparableConv(nn.Module):
    """A convolution of (T, B, C, H, W) with padding SAME and BatchNorm: full, pointwise, or `depthwise`.

    reads_pixels: as in `norm.ConvBN`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        reads_pixels: bool = False,
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d if reads_pixels else Conv2d
        groups = inputs if depthwise else 1
        self.conv = convolution(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.bn = BatchNorm(outputs)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        x = x_TBCHW.flatten(0, 1)
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        rows, columns = (same_padding(side, kernel, stride) for side in x.shape[2:])
        if kernel > 1:
            x = F.pad(x, (*columns, *rows))
        return self.bn(self.conv(x)).unflatten(0, x_TBCHW.shape[:2])


class InvertedResidual(nn.Module):
    """Expand, filter every channel alone, project; the projection has no neuron behind it, so its sum is signed.

    The first stage's block reads the stem's spikes and expands nothing: it has neither `spike` nor `expand`, and adds
    nothing to what it reads.
    """

    def __init__(self, inputs: int, outputs: int, stage: Stage, neuron: NeuronConfig) -> None:
        super().__init__()
        hidden = inputs * stage.expansion
        self.expands = stage.expansion > 1
        self.residual = self.expands and stage.stride == 1 and inputs == outputs
        if self.expands:
            self.spike = make_channel_neuron(neuron, inputs, signed=True)
            self.expand = SeparableConv(inputs, hidden)
            self.expand_spike = make_channel_neuron(neuron, hidden, ceiling=CEILING)
        self.filter = SeparableConv(hidden, hidden, stage.kernel, stage.stride, depthwise=True)
        self.filter_spike = make_channel_neuron(neuron, hidden, ceiling=CEILING)
        self.project = SeparableConv(hidden, outputs)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        s_TBCHW = self.expand_spike(self.expand(self.spike(x_TBCHW))) if self.expands else x_TBCHW
        h_TBCHW = self.project(self.filter_spike(self.filter(s_TBCHW)))
        return x_TBCHW + h_TBCHW if self.residual else h_TBCHW


class SeparableTower(nn.Module):
    """Stem, seven stages of inverted residual blocks, head, mean over positions, readout."""

    def __init__(self, config: ImageConfig, neuron: NeuronConfig, embed_dim: int) -> None:
        super().__init__()
        self.T = neuron.T
        stem, *widths, head = config.widths
        self.stem = SeparableConv(config.shape[-1], stem, 3, 2, reads_pixels=True)
        self.stem_spike: Neuron = make_channel_neuron(neuron, stem, ceiling=CEILING)
        self.blocks = nn.ModuleList()
        inputs = stem
        for outputs, repeats, stage in zip(widths, config.repeats, STAGES, strict=True):
            for _ in range(repeats):
                self.blocks.append(InvertedResidual(inputs, outputs, stage, neuron))
                inputs, stage = outputs, stage._replace(stride=1)
        self.spike: Neuron = make_channel_neuron(neuron, inputs, signed=True)
        self.head = SeparableConv(inputs, head)
        self.head_spike: Neuron = make_channel_neuron(neuron, head, ceiling=CEILING)
        self.readout = Readout(head, embed_dim)

    def features(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) or recordings (T, B, 2, H, W) -> mean spikes of the head (T, B, C)."""
        x_TBCHW = x[None] if x.ndim == 4 else x
        x_TBCHW = self.stem_spike(self.stem(x_TBCHW).expand(self.T, -1, -1, -1, -1))
        for block in self.blocks:
            x_TBCHW = block(x_TBCHW)
        return self.head_spike(self.head(self.spike(x_TBCHW))).mean((3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.features(x))


def separable_tower(config: ImageConfig, neuron: NeuronConfig, embed_dim: int) -> SeparableTower:
    """Build the tower; raises `InputError` for widths or repeats that do not describe its parts."""
    widths, repeats = config.widths, config.repeats
    if len(widths) != len(STAGES) + 2 or len(repeats) != len(STAGES) or repeats[0] != 1 or min(repeats) < 1:
        raise InputError(
            f"a separable tower has widths of stem, {len(STAGES)} stages and head, and repeats of the stages, 1 of the "
            f"first and at least 1 of the others; got {len(widths)} widths and repeats {list(repeats)[:20]}"
        )
    if config.depth:
        raise InputError(f"a separable tower has no transformer blocks: image.depth is 0, not {config.depth}")
    return SeparableTower(config, neuron, embed_dim)
