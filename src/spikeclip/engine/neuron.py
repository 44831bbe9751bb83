"""One time step of a layer of neurons, and the list of those that fired."""

from __future__ import annotations

import numpy as np
from numba import njit

from spikeclip.engine.vector import LIST_LANES, list_above
from spikeclip.graph import ops

NONE, LIF, ILIF = 0, 1, 2
NEVER = np.float32(-1e30)
"""A current at which no neuron fires: that of columns which only fill up a layer to whole vectors."""
SLACK = 2 * LIST_LANES
"""Entries behind a list's last place, which `list_above` may write and which no list holds."""


def parameters(op: ops.Neuron | None) -> np.ndarray:
    """Return a neuron's numbers as the kernels take them: kind, gain, decay, threshold, rest, soft, levels."""
    if op is None:
        return np.zeros(7, np.float32)
    if op.kind == "lif":
        rest, soft = op.v_reset or 0.0, op.v_reset is None
        return np.array([LIF, 1 / op.tau, 0.0, op.v_threshold, rest, soft, 1], np.float32)
    return np.array([ILIF, op.D / op.range, 1 - 1 / op.tau, 0.0, 0.0, 0.0, op.D], np.float32)


@njit(cache=True, nogil=True)
def rest(v_N: np.ndarray, neuron: np.ndarray) -> None:
    """Set the membranes to where they start."""
    v_N[:] = neuron[4]


@njit(cache=True, nogil=True)
def fire(x_N: np.ndarray, v_N: np.ndarray, level_N: np.ndarray, neuron: np.ndarray) -> None:
    """Update membranes by the currents of one step and write the levels 0 ... D that fire (graph.execute's maths).

    x_N, v_N: float32. level_N: uint8.
    """
    if neuron[0] == LIF:
        rate, threshold, low, soft = neuron[1], neuron[3], neuron[4], neuron[5] != 0
        for n in range(x_N.size):
            h = v_N[n] + (x_N[n] - (v_N[n] - low)) * rate
            s = h >= threshold
            level_N[n] = np.uint8(s)
            after = h - threshold if soft else low
            v_N[n] = after if s else h
    else:
        gain, decay, top = neuron[1], neuron[2], neuron[6]
        zero = np.float32(0)
        for n in range(x_N.size):
            u = x_N[n] * gain + v_N[n] * decay
            level = np.rint(min(max(u, zero), top))
            level_N[n] = np.uint8(level)
            v_N[n] = u - level


@njit(cache=True, nogil=True)
def list_spikes(level_N: np.ndarray, levels: int, index: np.ndarray) -> int:
    """Write the list of spikes, a neuron of level n standing in it n times; return its length.

    level_N: uint8, a multiple of 32 entries. index: uint16, room for levels * N + SLACK.
    """
    written = 0
    for least in range(levels):
        place = index.ctypes.data + 2 * written
        added = list_above(level_N.ctypes.data, level_N.size, least, place)  # type: ignore[call-arg]
        if added == 0:
            break
        written += added
    return written
