"""The image towers: pictures (B, 3, H, W) or event recordings (T, B, 2, H, W) -> embeddings (B, embed_dim)."""

from __future__ import annotations

import math
import reprlib

from torch import Tensor, nn

from spikeclip.config import ImageConfig, NeuronConfig
from spikeclip.errors import InputError
from spikeclip.neurons import make_neuron, set_first
from spikeclip.towers.block import Block
from spikeclip.towers.norm import ConvBN
from spikeclip.towers.readout import PublishedReadout, Readout
from spikeclip.towers.separable import SeparableTower, separable_tower
from spikeclip.towers.stem import Stem, Whitening


class Spikingformer(nn.Module):
    """Convolutional stem, spiking transformer blocks, mean over tokens, readout (Spikingformer, 2304.11954)."""

    def __init__(self, config: ImageConfig, neuron: NeuronConfig, embed_dim: int) -> None:
        super().__init__()
        width = config.widths[-1]
        scale = 0.125 if config.published else None
        self.stem = Stem(config.widths, neuron, config.shape[-1])
        self.blocks = nn.ModuleList(
            Block(width, config.num_heads, config.mlp_ratio, neuron, scale) for _ in range(config.depth)
        )
        if config.published:
            self.readout = nn.Sequential(PublishedReadout(neuron.T), nn.Linear(width, embed_dim))
        else:
            self.readout = Readout(width, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        x_TBNC = self.stem(_frames(x)).flatten(3).transpose(2, 3)
        for block in self.blocks:
            x_TBNC = block(x_TBNC)
        return self.readout(x_TBNC.mean(2))


class ConvTower(nn.Module):
    """Whitening, then groups of convolution - pool - neuron - convolution - neuron, max over positions, readout.

    The layout of Keller Jordan's airbench94 with spiking neurons: BatchNorm without a learned gain and with
    fast statistics, filters that start as the identity where they can. With `depth` above 0, transformer
    blocks that start as the identity follow the groups.
    """

    def __init__(self, config: ImageConfig, neuron: NeuronConfig, embed_dim: int) -> None:
        super().__init__()
        self.T = neuron.T
        self.whiten, self.whiten_spike = Whitening(config.shape[-1]), make_neuron(neuron)
        convs: list[nn.Module] = []
        width = len(self.whiten.filters)
        for outputs in config.widths:
            convs += [ConvBN(width, outputs, pool_first=2, momentum=0.4, gain=False), make_neuron(neuron)]
            convs += [ConvBN(outputs, outputs, momentum=0.4, gain=False), make_neuron(neuron)]
            width = outputs
        self.groups = nn.Sequential(*convs)
        self.blocks = nn.ModuleList(
            Block(width, config.num_heads, config.mlp_ratio, neuron, zero_init=True)
            for _ in range(config.depth)
        )
        self.readout = Readout(width, embed_dim)
        for module in self.groups:
            if isinstance(module, ConvBN):
                nn.init.dirac_(module.conv.weight[: module.conv.in_channels].data)

    def forward(self, x: Tensor) -> Tensor:
        x_TBCHW = _frames(x)
        x_TBCHW = self.whiten(x_TBCHW.flatten(0, 1)).unflatten(0, x_TBCHW.shape[:2])
        x_TBCHW = self.groups(self.whiten_spike(x_TBCHW.expand(self.T, -1, -1, -1, -1)))
        x_TBNC = x_TBCHW.flatten(3).transpose(2, 3)
        for block in self.blocks:
            x_TBNC = block(x_TBNC)
        return self.readout(x_TBNC.amax(2))


MOST_PIXELS = 2**21
"""Time steps x pixels of one input: 41 steps at 224 pixels, 1,024 at 45. Weights say nothing of either."""
ImageTower = Spikingformer | ConvTower | SeparableTower


def _frames(x: Tensor) -> Tensor:
    """Return pictures (B, C, H, W) as the one frame (1, B, C, H, W) of all time steps; recordings as they are."""
    return x[None] if x.ndim == 4 else x


def image_tower(config: ImageConfig, neuron: NeuronConfig, embed_dim: int) -> ImageTower:
    """Build the image tower of `config`; raises `InputError` for sizes that cannot work."""
    tower = _image_tower(config, neuron, embed_dim)
    set_first(tower, neuron.first_D, neuron.first_range)
    return tower


def _image_tower(config: ImageConfig, neuron: NeuronConfig, embed_dim: int) -> ImageTower:
    steps = math.prod((neuron.T, config.image_size, config.image_size))
    if steps > MOST_PIXELS:
        raise InputError(
            f"{neuron.T:,} time steps of {config.image_size} x {config.image_size} pixels are {steps:,} pixels for one "
            f"input; at most {MOST_PIXELS:,} are allowed: fewer steps (T) or a smaller image_size"
        )
    if config.architecture == "separable":
        return separable_tower(config, neuron, embed_dim)
    if config.architecture == "conv":
        # Whitening takes one pixel off the side, every group halves it.
        most = (config.image_size - 1).bit_length() - 1
        if not 1 <= len(config.widths) <= most:
            raise InputError(
                f"pictures of {config.image_size} pixels leave room for 1 to {most} convolution groups, "
                f"got widths {reprlib.repr(list(config.widths))}"
            )
        return ConvTower(config, neuron, embed_dim)
    if config.image_size % 4:
        raise InputError(
            f"the spikingformer stem divides the picture by 4: image_size {config.image_size} does not fit"
        )
    if len(config.widths) != 5:
        widths = reprlib.repr(list(config.widths))
        raise InputError(f"the spikingformer stem has five convolutions, got widths {widths}")
    return Spikingformer(config, neuron, embed_dim)
