"""A tower as a row of parts that are fitted one after the other, and which convolution reads which neuron.

A second architecture is one more entry of `_PARTS`: its stretches, as modules that share the tower's own, and their
readings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from spikeclip.errors import InputError
from spikeclip.neurons import Neuron
from spikeclip.towers.separable import InvertedResidual, SeparableConv, SeparableTower

_EXPANDING = {"spike": "expand", "expand_spike": "filter", "filter_spike": "project"}
_MIRRORS = {"filter_spike": ("filter", "project")}


class Part(NamedTuple):
    """A stretch of a tower, (T, B, C, H, W) -> the same for others, or the features (T, B, C) of the last.

    readings: name of a neuron inside it -> the convolution, beside its BatchNorm, whose weights carry its range.
    mirrors: neuron -> the convolution that drives it and the pointwise one that alone reads it.
    """

    name: str
    module: nn.Module
    readings: dict[str, str]
    mirrors: dict[str, tuple[str, str]]

    @property
    def neurons(self) -> dict[str, Neuron]:
        """The neurons by name, in their order."""
        return {name: found for name, found in self.module.named_modules() if isinstance(found, Neuron)}

    @property
    def synapses(self) -> dict[str, SeparableConv]:
        """The convolutions with their BatchNorm, by name."""
        return {
            name: found for name, found in self.module.named_modules() if isinstance(found, SeparableConv)
        }


class _Start(nn.Module):
    """Stem and first block; pictures (B, 3, H, W) come as (1, B, 3, H, W)."""

    def __init__(self, tower: SeparableTower) -> None:
        super().__init__()
        self.stem, self.stem_spike, self.block = tower.stem, tower.stem_spike, tower.blocks[0]

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        return self.block(self.stem_spike(self.stem(x_TBCHW)))


class _End(nn.Module):
    """Head and mean over positions: features as the ordinary network has them, whatever the neurons' ranges."""

    def __init__(self, tower: SeparableTower) -> None:
        super().__init__()
        self.spike, self.head, self.head_spike = tower.spike, tower.head, tower.head_spike

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        assert self.head_spike.range_C is not None
        return self.head_spike(self.head(self.spike(x_TBCHW))).mean((3, 4)) * self.head_spike.range_C


def parts_of(tower: nn.Module) -> list[Part]:
    """Return the parts of a tower in order; raises `InputError` for an architecture that has none."""
    if type(tower) not in _PARTS:
        raise InputError(f"no conversion is known for a {type(tower).__name__}")
    return _PARTS[type(tower)](tower)


def _separable(tower: nn.Module) -> list[Part]:
    assert isinstance(tower, SeparableTower)
    first, *blocks = tower.blocks
    if isinstance(first, InvertedResidual) and first.residual and not first.expands:
        raise InputError(
            "the first block adds the stem's spikes to a sum: a stem of its width cannot be converted"
        )
    start = {"stem_spike": "block.filter"} if not _expands(first) else {}
    start |= {f"block.{neuron}": f"block.{synapse}" for neuron, synapse in _readings(first).items()}
    return [
        Part(
            "stem and block 0",
            _Start(tower),
            start,
            {"block.filter_spike": ("block.filter", "block.project")},
        ),
        *(Part(f"block {i}", block, _readings(block), _MIRRORS) for i, block in enumerate(blocks, 1)),
        Part("head", _End(tower), {"spike": "head"}, {}),
    ]


def _expands(block: nn.Module) -> bool:
    return isinstance(block, InvertedResidual) and block.expands


def _readings(block: nn.Module) -> dict[str, str]:
    return _EXPANDING if _expands(block) else {"filter_spike": "project"}


_PARTS: dict[type[nn.Module], Callable[[nn.Module], list[Part]]] = {SeparableTower: _separable}
