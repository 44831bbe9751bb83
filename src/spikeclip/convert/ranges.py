"""The range of every channel: the current that fires the highest level, by the squared error of rounding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spikeclip.convert.parts import Part
from spikeclip.neurons import ILIF

_FRACTIONS = torch.logspace(math.log10(0.1), 0, 40).tolist()
"""Of a channel's largest current."""
_SAMPLES = 20_000
"""Currents of a channel that are looked at."""
SMALLEST = 1e-3


@torch.no_grad()
def best_range(x_TBCHW: Tensor, D: int, signed: bool, ceiling: float | None = None) -> Tensor:
    """Return the range (C,) of each channel with the least squared error of rounding its currents to D levels.

    signed: levels from -D. ceiling: largest activation of the ordinary neuron. A channel that never fires gets the
    median of the others.
    """
    x_CN = x_TBCHW.movedim(2, 0).flatten(1)
    x_CN = x_CN[:, :: max(1, x_CN.shape[1] // _SAMPLES)].float()
    wanted_CN = x_CN if signed else x_CN.clamp(0, ceiling)
    top_C1 = wanted_CN.abs().amax(1, keepdim=True)
    fires_C = top_C1[:, 0] > SMALLEST
    usual = top_C1[fires_C].median() if bool(fires_C.any()) else top_C1.new_ones(())
    top_C1 = torch.where(fires_C[:, None], top_C1, usual)
    best_C, error_C = top_C1[:, 0].clone(), torch.full_like(top_C1[:, 0], math.inf)
    for fraction in _FRACTIONS:
        step_C1 = top_C1 * (fraction / D)
        level_CN = (wanted_CN / step_C1).round_().clamp_(-D if signed else 0, D)
        other_C = (level_CN.mul_(step_C1) - wanted_CN).square_().sum(1)
        better_C = other_C < error_C
        error_C = torch.where(better_C, other_C, error_C)
        best_C = torch.where(better_C, step_C1[:, 0] * D, best_C)
    return torch.where(fires_C, best_C, usual)


@torch.no_grad()
def choose_ranges(part: Part, ordinary: Part, x_TBCHW: Tensor) -> Tensor:
    """Give every neuron of a part its ranges, one after the other, from what reaches it; returns the part's output.

    x_TBCHW: what the part reads. The weights behind a neuron take its range up. ordinary: the same part of the ordinary
    network, whose neurons say the largest activation.
    """
    handles = []
    for name, neuron in part.neurons.items():
        assert isinstance(neuron, ILIF)
        ceiling = getattr(ordinary.module.get_submodule(name), "ceiling", None)

        def choose(
            module: ILIF, inputs: tuple[Tensor], name: str = name, ceiling: float | None = ceiling
        ) -> None:
            assert module.range_C is not None
            module.range_C.copy_(best_range(inputs[0], module.D, module.signed, ceiling))
            if name in part.readings:
                weight = part.synapses[part.readings[name]].conv.weight
                weight.mul_(along_inputs(module.range_C, weight))

        handles.append(neuron.register_forward_pre_hook(choose))
    try:
        return part.module(x_TBCHW)
    finally:
        for handle in handles:
            handle.remove()


def along_inputs(range_C: Tensor, weight_OIRS: Tensor) -> Tensor:
    """Return ranges in the shape that multiplies the inputs of weights; a depthwise filter reads one channel."""
    depthwise = weight_OIRS.shape[1] == 1 and len(range_C) == len(weight_OIRS)
    return range_C[:, None, None, None] if depthwise else range_C[None, :, None, None]
