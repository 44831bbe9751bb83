"""Channels that fire more than half of their levels most of the time fire the others instead.

Where a pointwise convolution reads r - x in place of x, its negated weights and a shift of its bias give the same sum:
level l becomes D - l, and no answer changes but by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikeclip.convert.parts import Part
from spikeclip.neurons import Neuron, record


@torch.no_grad()
def mirror(parts: Sequence[Part], x_TBCHW: Tensor) -> int:
    """Mirror every channel whose mean activation on pictures is above a half; returns how many.

    parts: all of a spiking tower. x_TBCHW: what the first of them reads.
    """
    count = 0
    for part in parts:
        with record(part.module, _mean) as means:
            x_TBCHW = part.module(x_TBCHW)
        for name, (driving, reading) in part.mirrors.items():
            before, after = part.synapses[driving], part.synapses[reading]
            range_C, often_C = part.neurons[name].range_C, means[name] > 0.5
            assert range_C is not None
            before.conv.weight[often_C] *= -1
            before.bn.bias[often_C] = (range_C - before.bn.bias)[often_C]
            after.bn.bias.add_(after.conv.weight[:, often_C, 0, 0].sum(1))
            after.conv.weight[:, often_C] *= -1
            count += int(often_C.sum())
    return count


def _mean(neuron: Neuron, s_TBCHW: Tensor) -> Tensor:
    """Return the mean activation (C,) of each channel, of 1 at the highest level."""
    return s_TBCHW.mean((0, 1, 3, 4))
