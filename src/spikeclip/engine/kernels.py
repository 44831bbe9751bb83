"""The engine's kernels: what happens at a position, for all its time steps, in one pass.

Spikes are lists. index (T, P, room) uint16 holds the channels that fired at each step and position, a channel of
level n standing n times; count (T, P) int32 says how many entries are valid. Currents are float32 (T, P, N).
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from spikeclip.engine.neuron import NEVER, settle
from spikeclip.engine.rows import accumulate
from spikeclip.engine.vector import LIST_LANES, largest, prefetch, shift


@njit(cache=True, nogil=True)
def _sum_at(
    line: int,
    x: int,
    index: np.ndarray,
    count: np.ndarray,
    space: tuple[int, int, int],
    filter_: tuple[int, int, int],
    weight_IN: np.ndarray,
    rows_K: np.ndarray,
    spare_N: np.ndarray,
    sums_TN: np.ndarray,
) -> None:
    """Write the sums at position x of an output line, counted over all pictures; see `synapses`.

    rows_K: uint16, room for what the filter sees.
    """
    T, sources = count.shape
    H, W = space[1:]
    R, S, padding = filter_
    room, inputs = index.shape[2], weight_IN.shape[0] // (R * S)
    b, y = divmod(line, H + 2 * padding - R + 1)
    top, left = y - padding, x - padding
    rows, spare, sums = rows_K.ctypes.data, spare_N.ctypes.data, sums_TN.ctypes.data
    for t in range(T):
        seen, entries = 0, 0
        for r in range(max(0, -top), min(R, H - top)):
            for s in range(max(0, -left), min(S, W - left)):
                place = (b * H + top + r) * W + left + s
                entries = index.ctypes.data + 2 * room * (t * sources + place)
                shift(rows + 2 * seen, entries, count[t, place], (r * S + s) * inputs)  # type: ignore[call-arg]
                seen += count[t, place]
            prefetch(entries + 2 * room)  # of the next position  # type: ignore[call-arg]
        accumulate(sums + 4 * weight_IN.shape[1] * t, spare, rows, seen, weight_IN)


@njit(parallel=True, cache=True, nogil=True)
def synapses(
    index: np.ndarray,
    count: np.ndarray,
    space: tuple[int, int, int],
    filter_: tuple[int, int, int],
    weight_IN: np.ndarray,
    scale_N: np.ndarray,
    bias_N: np.ndarray,
    currents_TPN: np.ndarray,
    add: bool,
    neuron: np.ndarray,
    out_index: np.ndarray,
    out_count: np.ndarray,
) -> None:
    """Convolution (or linear map, a filter of one position) of spikes, a residual stream, and the next neuron.

    index, count: spikes at the positions of `space` (B, H, W). filter_: rows, columns and padding of the filter.
    weight_IN: int8 or float32, a row for each filter position and input, N filled up to a multiple of 32; scale_N:
    what 1 in the weights stands for. The rest is what `settle` takes, of all positions.
    """
    T = count.shape[0]
    B, H, W = space
    R, S, padding = filter_
    height, width = H + 2 * padding - R + 1, W + 2 * padding - S + 1
    positions, columns = B * height * width, scale_N.size
    chunks = min(positions, 64)
    for chunk_ in prange(chunks):
        chunk = np.int64(chunk_)  # numba counts in uint64, whose sum with an int64 is a float
        sums_TN, spare_N = np.empty((T, columns), np.float32), np.empty(columns, np.float32)
        level_TN = np.empty((T, columns), np.uint8)
        rows_K = np.empty(R * S * index.shape[2], np.uint16)
        for p in range(chunk * positions // chunks, (chunk + 1) * positions // chunks):
            line, x = divmod(p, width)
            _sum_at(line, x, index, count, space, filter_, weight_IN, rows_K, spare_N, sums_TN)
            settle(p, sums_TN, scale_N, bias_N, currents_TPN, add, neuron, out_index, out_count, level_TN)  # type: ignore[call-arg]


@njit(parallel=True, cache=True, nogil=True)
def pooled_synapses(
    index: np.ndarray,
    count: np.ndarray,
    space: tuple[int, int, int],
    filter_: tuple[int, int, int],
    window: tuple[int, int, int],
    weight_IN: np.ndarray,
    scale_N: np.ndarray,
    bias_N: np.ndarray,
    neuron: np.ndarray,
    out_index: np.ndarray,
    out_count: np.ndarray,
    threads: int,
) -> None:
    """`synapses` with a max-pool before the neuron, window: size, stride, padding; no currents go to memory.

    Every thread takes consecutive lines, and sums no line twice but at the border to the next thread. The largest
    sum of a window is that of its largest current: scales are not negative, and rounding keeps order.
    """
    T = count.shape[0]
    B, H, W = space
    R, S, padding = filter_
    height, width = H + 2 * padding - R + 1, W + 2 * padding - S + 1
    size, stride, margin = window
    rows, places = (height + 2 * margin - size) // stride + 1, (width + 2 * margin - size) // stride + 1
    columns, lines, chunks = scale_N.size, B * rows, min(B * rows, threads)
    kept = np.empty((0, 0, columns), np.float32)
    for chunk_ in prange(chunks):
        chunk = np.int64(chunk_)
        ring_RXTN = np.empty((size, width, T, columns), np.float32)  # the convolution's last lines
        done = 0  # its lines before this one are there, or of no use
        spare_N, largest_TN = np.empty(columns, np.float32), np.empty((T, columns), np.float32)
        level_TN, cells_K = np.empty((T, columns), np.uint8), np.empty(size * size, np.int64)
        rows_K = np.empty(R * S * index.shape[2], np.uint16)
        for line in range(chunk * lines // chunks, (chunk + 1) * lines // chunks):
            b, y = divmod(line, rows)
            top = b * height + max(0, y * stride - margin)
            bottom = b * height + min(height, y * stride - margin + size)
            for i in range(max(top, done), bottom):
                for x in range(width):
                    sums_TN = ring_RXTN[i % size, x]
                    _sum_at(i, x, index, count, space, filter_, weight_IN, rows_K, spare_N, sums_TN)
            done = bottom
            for place in range(places):
                left, right = max(0, place * stride - margin), min(width, place * stride - margin + size)
                cells = 0
                for i in range(top, bottom):
                    for x in range(left, right):
                        cells_K[cells] = ring_RXTN[i % size, x].ctypes.data
                        cells += 1
                largest(largest_TN.ctypes.data, cells_K.ctypes.data, cells, T * columns)  # type: ignore[call-arg]
                p = line * places + place
                settle(p, largest_TN, scale_N, bias_N, kept, False, neuron, out_index, out_count, level_TN)  # type: ignore[call-arg]


@njit(parallel=True, cache=True, nogil=True)
def dense_conv(
    x_BHWI: np.ndarray,
    weight_IN: np.ndarray,
    bias_N: np.ndarray,
    filter_: tuple[int, int, int],
    out_PN: np.ndarray,
) -> None:
    """Convolution of real-valued input (the picture) with float32 weights, N filled up to a multiple of 32."""
    B, H, W, inputs = x_BHWI.shape
    R, S, padding = filter_
    height, width = H + 2 * padding - R + 1, W + 2 * padding - S + 1
    for line_ in prange(B * height):
        line = np.int64(line_)
        b, y = divmod(line, height)
        sums_N = np.empty(bias_N.size, np.float32)
        for x in range(width):
            sums_N[:] = bias_N
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


@njit(parallel=True, cache=True, nogil=True)
def pool_and_fire(
    currents_TBHWN: np.ndarray,
    window: tuple[int, int, int],
    neuron: np.ndarray,
    out_index: np.ndarray,
    out_count: np.ndarray,
) -> None:
    """Largest current of each window (size, stride, padding; 1, 1, 0 for none), then the neuron.

    A current with one time step is constant over all those of `out_count` (T, P).
    """
    steps, B, H, W, N = currents_TBHWN.shape
    size, stride, padding = window
    height, width = (H + 2 * padding - size) // stride + 1, (W + 2 * padding - size) // stride + 1
    columns = (N + LIST_LANES - 1) // LIST_LANES * LIST_LANES
    for line_ in prange(B * height):
        line = np.int64(line_)
        b, y = divmod(line, height)
        x_TN = np.full((steps, columns), NEVER)
        scale_N, bias_N = np.ones(columns, np.float32), np.zeros(columns, np.float32)
        level_TN = np.empty((out_count.shape[0], columns), np.uint8)
        kept = np.empty((0, 0, columns), np.float32)
        top = y * stride - padding
        for x in range(width):
            left, p = x * stride - padding, line * width + x
            for t in range(steps):
                x_N = x_TN[t]
                x_N[:N] = -np.inf
                for i in range(max(0, top), min(H, top + size)):
                    for j in range(max(0, left), min(W, left + size)):
                        current_N = currents_TBHWN[t, b, i, j]
                        for n in range(N):
                            x_N[n] = max(x_N[n], current_N[n])
            settle(p, x_TN, scale_N, bias_N, kept, False, neuron, out_index, out_count, level_TN)  # type: ignore[call-arg]


@njit(parallel=True, cache=True, nogil=True)
def levels_of(index: np.ndarray, count: np.ndarray, level_TPN: np.ndarray) -> None:
    """Write the dense levels (T, P, N) uint8 that lists of spikes stand for."""
    T, positions = count.shape
    for p in prange(positions):
        for t in range(T):
            level_TPN[t, p] = 0
            for i in range(count[t, p]):
                level_TPN[t, p, index[t, p, i]] += 1
