"""The engine's kernels: what happens at a position, for all its time steps, in one pass.

Spikes are lists, one for each line of positions and time step: index (lines, T, room) uint16. Position x of the line
has the entries from ends[line, t, x] to ends[line, t, x + 1], int32. Channel c there is x * channels + c, modulo 2^16;
one of level n appears n times. Currents are float32 (lines, X, T, N).
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from spikeclip.engine.neuron import NEVER, settle
from spikeclip.engine.rows import accumulate, channel, floats
from spikeclip.engine.threads import Kernel
from spikeclip.engine.vector import LIST_LANES, largest, place_at, shift


@njit(inline="always")
def _sums_at(
    line: int,
    x: int,
    index: np.ndarray,
    ends: np.ndarray,
    space: tuple[int, int, int],
    filter_: tuple[int, int, int],
    weight_IN: np.ndarray,
    rows_K: np.ndarray,
    spare_N: np.ndarray,
    sums_TN: np.ndarray,
) -> None:
    """Write the sums of all steps at position x of an output line, counted over all pictures; see `synapses`.

    rows_K: uint16, room for what the filter sees. Inlined: a call with so many arrays takes long beside a step's sums.
    """
    T, columns = sums_TN.shape
    H, W = space[1:]
    R, S, padding = filter_
    room, inputs = index.shape[2], weight_IN.shape[0] // (R * S)
    b, y = divmod(line, H + 2 * padding - R + 1)
    top, left = y - padding, x - padding
    first = min(W, max(0, left))
    last = max(first, min(W, left + S))
    rows, entries, ends_ = rows_K.ctypes.data, index.ctypes.data, ends.ctypes.data
    for t in range(T):
        seen = 0
        for r in range(max(0, -top), min(R, H - top)):
            source = (b * H + top + r) * T + t
            begin = place_at(ends_ + 4 * (source * (W + 1) + first))  # type: ignore[call-arg]
            count = place_at(ends_ + 4 * (source * (W + 1) + last)) - begin  # type: ignore[call-arg]
            here = entries + 2 * (source * room + begin)
            shift(rows + 2 * seen, here, count, (r * S - left) * inputs)  # type: ignore[call-arg]
            seen += count
        accumulate(sums_TN.ctypes.data + 4 * columns * t, spare_N.ctypes.data, rows, seen, weight_IN)


def _synapses(
    first: int,
    last: int,
    index: np.ndarray,
    ends: np.ndarray,
    space: tuple[int, int, int],
    filter_: tuple[int, int, int],
    weight_IN: np.ndarray,
    scale_N: np.ndarray,
    bias_N: np.ndarray,
    currents_LXTN: np.ndarray,
    add: bool,
    neuron: np.ndarray,
    channels: int,
    out_index: np.ndarray,
    out_ends: np.ndarray,
) -> None:
    """Convolution (or linear map, a filter of one position) of spikes, a residual stream, and the next neuron.

    index, ends: spikes at the positions of `space` (B, H, W), whose lines are the lists'. filter_: rows, columns and
    padding of the filter. weight_IN: int8 or float32, a row for each filter position and input, N filled up to a
    multiple of 32; scale_N: what 1 in the weights stands for. The rest is what `settle` takes, of all positions.
    """
    T = ends.shape[1]
    R, S, padding = filter_
    places, columns = space[2] + 2 * padding - S + 1, scale_N.size
    sums_TN, spare_N = floats(T, columns), floats(1, columns)[0]
    levels_TN = np.empty((T, columns), np.uint8)
    rows_K = np.empty(R * index.shape[2], np.uint16)
    for line in range(first, last):
        for x in range(places):
            _sums_at(line, x, index, ends, space, filter_, weight_IN, rows_K, spare_N, sums_TN)
            settle(
                line, x, sums_TN, scale_N, bias_N, currents_LXTN, add, neuron, channels, out_index, out_ends, levels_TN
            )  # type: ignore[call-arg]  # fmt: skip


def _pooled_synapses(
    first: int,
    last: int,
    index: np.ndarray,
    ends: np.ndarray,
    space: tuple[int, int, int],
    filter_: tuple[int, int, int],
    window: tuple[int, int, int],
    weight_IN: np.ndarray,
    scale_N: np.ndarray,
    bias_N: np.ndarray,
    neuron: np.ndarray,
    channels: int,
    out_index: np.ndarray,
    out_ends: np.ndarray,
) -> None:
    """`synapses` with a max-pool before the neuron, window: size, stride, padding; no currents go to memory.

    A thread sums no line twice but at the border to the next one's. The largest
    sum of a window is that of its largest current: scales are not negative, and rounding keeps order.
    """
    T = ends.shape[1]
    H, W = space[1:]
    R, S, padding = filter_
    height, width = H + 2 * padding - R + 1, W + 2 * padding - S + 1
    size, stride, margin = window
    rows, places = (height + 2 * margin - size) // stride + 1, (width + 2 * margin - size) // stride + 1
    columns = scale_N.size
    no_currents = np.empty((0, 0, 0, columns), np.float32)
    # The convolution's last lines.
    ring_RXTN = floats(size * width * T, columns).reshape(size, width, T, columns)
    done = 0  # its lines before this one are there, or of no use
    spare_N, largest_TN = floats(1, columns)[0], floats(T, columns)
    levels_TN, cells_K = np.empty((T, columns), np.uint8), np.empty(size * size, np.int64)
    rows_K = np.empty(R * index.shape[2], np.uint16)
    for line in range(first, last):
        b, y = divmod(line, rows)
        top = b * height + max(0, y * stride - margin)
        bottom = b * height + min(height, y * stride - margin + size)
        for i in range(max(top, done), bottom):
            for x in range(width):
                sums_TN = ring_RXTN[i % size, x]
                _sums_at(i, x, index, ends, space, filter_, weight_IN, rows_K, spare_N, sums_TN)
        done = bottom
        for place in range(places):
            left, right = max(0, place * stride - margin), min(width, place * stride - margin + size)
            cells = 0
            for i in range(top, bottom):
                for x in range(left, right):
                    cells_K[cells] = ring_RXTN[i % size, x].ctypes.data
                    cells += 1
            largest(largest_TN.ctypes.data, cells_K.ctypes.data, cells, T * columns)  # type: ignore[call-arg]
            settle(
                line, place, largest_TN, scale_N, bias_N, no_currents, False, neuron, channels,
                out_index, out_ends, levels_TN,
            )  # type: ignore[call-arg]  # fmt: skip


def _dense_conv(
    first: int,
    last: int,
    x_BHWI: np.ndarray,
    weight_IN: np.ndarray,
    bias_N: np.ndarray,
    filter_: tuple[int, int, int],
    out_PN: np.ndarray,
) -> None:
    """Convolution of real-valued input (the picture) with float32 weights, N filled up to a multiple of 32."""
    H, W, inputs = x_BHWI.shape[1:]
    R, S, padding = filter_
    height, width = H + 2 * padding - R + 1, W + 2 * padding - S + 1
    sums_N = np.empty(bias_N.size, np.float32)
    for line in range(first, last):
        b, y = divmod(line, height)
        for x in range(width):
            for n in range(sums_N.size):
                sums_N[n] = bias_N[n]
            for r in range(max(0, padding - y), min(R, H + padding - y)):
                for s in range(max(0, padding - x), min(S, W + padding - x)):
                    for i in range(inputs):
                        value = x_BHWI[b, y + r - padding, x + s - padding, i]
                        row_N = weight_IN[(r * S + s) * inputs + i]
                        for n in range(sums_N.size):
                            sums_N[n] += value * row_N[n]
            out_N = out_PN[line * width + x]
            for n in range(out_N.size):
                out_N[n] = sums_N[n]


def _pool_and_fire(
    first: int,
    last: int,
    currents_TBHWN: np.ndarray,
    window: tuple[int, int, int],
    neuron: np.ndarray,
    out_index: np.ndarray,
    out_ends: np.ndarray,
) -> None:
    """Largest current of each window (size, stride, padding; 1, 1, 0 for none), then the neuron.

    A current with one time step is constant over all those of `out_ends` (lines, T, places + 1).
    """
    steps, _, H, W, N = currents_TBHWN.shape
    size, stride, padding = window
    height, width = (H + 2 * padding - size) // stride + 1, (W + 2 * padding - size) // stride + 1
    columns = (N + LIST_LANES - 1) // LIST_LANES * LIST_LANES
    x_SN = np.full((steps, columns), NEVER, np.float32)
    scale_N, bias_N = np.ones(columns, np.float32), np.zeros(columns, np.float32)
    levels_TN = np.empty((out_ends.shape[1], columns), np.uint8)
    no_currents = np.empty((0, 0, 0, columns), np.float32)
    for line in range(first, last):
        b, y = divmod(line, height)
        top = y * stride - padding
        for x in range(width):
            left = x * stride - padding
            for t in range(steps):
                x_N = x_SN[t]
                x_N[:N] = -np.inf
                for i in range(max(0, top), min(H, top + size)):
                    for j in range(max(0, left), min(W, left + size)):
                        current_N = currents_TBHWN[t, b, i, j]
                        for n in range(N):
                            x_N[n] = max(x_N[n], current_N[n])
            settle(
                line, x, x_SN, scale_N, bias_N, no_currents, False, neuron, N, out_index, out_ends, levels_TN
            )  # type: ignore[call-arg]  # fmt: skip


def _levels_of(first: int, last: int, index: np.ndarray, ends: np.ndarray, level_TLXN: np.ndarray) -> None:
    """Write the dense levels (T, lines, X, N) uint8 that lists of spikes stand for."""
    T, _, places, channels = level_TLXN.shape
    for line in range(first, last):
        for t in range(T):
            for x in range(places):
                level_N = level_TLXN[t, line, x]
                level_N[:] = 0
                for i in range(ends[line, t, x], ends[line, t, x + 1]):
                    level_N[channel(index[line, t, i], x, channels)] += 1


_LISTS, _ENDS, _THREE = types.uint16[:, :, ::1], types.int32[:, :, ::1], types.UniTuple(types.intp, 3)
_X, _XX, _XXXX = types.float32[::1], types.float32[:, ::1], types.float32[:, :, :, ::1]
_ROWS = {"int8": types.int8[:, ::1], "float32": _XX}
pooled_synapses = {
    kind: Kernel(
        f"pooled_synapses_{kind}", _pooled_synapses,
        _LISTS, _ENDS, _THREE, _THREE, _THREE, rows, _X, _X, _X, types.intp, _LISTS, _ENDS,
    )
    for kind, rows in _ROWS.items()
}  # fmt: skip
"""By the type of the weights, like `synapses`."""
synapses = {
    kind: Kernel(
        f"synapses_{kind}", _synapses,
        _LISTS, _ENDS, _THREE, _THREE, rows, _X, _X, _XXXX, types.boolean, _X, types.intp, _LISTS, _ENDS,
    )
    for kind, rows in _ROWS.items()
}  # fmt: skip
pool_and_fire = Kernel(
    "pool_and_fire", _pool_and_fire, types.float32[:, :, :, :, ::1], _THREE, _X, _LISTS, _ENDS
)
dense_conv = Kernel("dense_conv", _dense_conv, _XXXX, _XX, _X, _THREE, _XX)
levels_of = Kernel("levels_of", _levels_of, _LISTS, _ENDS, types.uint8[:, :, :, ::1])
