"""Neurons of OpenVINO's nodes, unrolled over the time steps: `engine.neuron`'s maths, in its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spikeclip.engine.neuron import parameters
from spikeclip.graph import ops


def unrolled(ov: Any, op: ops.Neuron, currents: Sequence[Any]) -> list[Any]:
    """Return the levels of every step, float32, of its currents. ov: OpenVINO's set of operations."""
    return (_lif if op.kind == "lif" else _ilif)(ov, op, currents)


def _lif(ov: Any, op: ops.Neuron, currents: Sequence[Any]) -> list[Any]:
    _, rate, _, threshold, rest, soft, _ = parameters(op)
    levels: list[Any] = []
    h = fired = None
    for x in currents:
        if levels:
            left = ov.subtract(h, np.float32(threshold)) if soft else ov.constant(np.float32(rest))
            v = ov.select(fired, left, h)
            x = ov.subtract(x, ov.subtract(v, np.float32(rest)))
        else:
            v = ov.constant(np.float32(rest))
        h = ov.add(v, ov.multiply(x, np.float32(rate)))
        fired = ov.greater_equal(h, np.float32(threshold))
        levels.append(ov.convert(fired, "f32"))
    return levels


def _ilif(ov: Any, op: ops.Neuron, currents: Sequence[Any]) -> list[Any]:
    _, gain, decay, *_, top = (np.float32(n) for n in parameters(op))
    levels: list[Any] = []
    u: Any = None
    for x in currents:
        now = ov.multiply(x, gain)
        if levels:
            now = ov.add(now, ov.multiply(ov.subtract(u, levels[-1]), decay))
        u = now
        levels.append(ov.round(ov.clamp(u, 0.0, float(top)), "half_to_even"))
    return levels
