"""The engine's kernels: what happens at a position, for all its time steps, in one pass.

Spikes are lists. index (T, P, room) uint16 holds the channels that fired at each step and position, a channel of
level n standing n times; count (T, P) int32 says how many entries are valid. Currents are float32 (T, P, N).
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from spikeclip.engine.neuron import NEVER, fire, list_spikes, rest
from spikeclip.engine.rows import accumulate, empty_sums, total
from spikeclip.engine.vector import LIST_LANES, copy_shifted


@njit(cache=True, nogil=True)
def _settle(
    t: int,
    p: int,
    x_N: np.ndarray,
    v_N: np.ndarray,
    level_N: np.ndarray,
    stream_TPN: np.ndarray,
    currents_TPN: np.ndarray,
    neuron: np.ndarray,
    out_index: np.ndarray,
    out_count: np.ndarray,
) -> None:
    """Add the residual stream to the currents x_N of one step and position, keep them, and fire; see `synapses`."""
    if stream_TPN.shape[0] > 0:
        stream_N = stream_TPN[t, p]
        for n in range(stream_N.size):
            x_N[n] += stream_N[n]
            stream_N[n] = x_N[n]
    if currents_TPN.shape[0] > 0:
        currents_N = currents_TPN[t, p]
        for n in range(currents_N.size):
            currents_N[n] = x_N[n]
    if neuron[0] > 0:
        fire(x_N, v_N, level_N, neuron)
        out_count[t, p] = list_spikes(level_N, int(neuron[6]), out_index[t, p])


@njit(parallel=True, cache=True, nogil=True)
def synapses(
    index: np.ndarray,
    count: np.ndarray,
    space: tuple[int, int, int],
    filter_: tuple[int, int, int],
    weight_IN: np.ndarray,
    scale_N: np.ndarray,
    bias_N: np.ndarray,
    stream_TPN: np.ndarray,
    currents_TPN: np.ndarray,
    neuron: np.ndarray,
    out_index: np.ndarray,
    out_count: np.ndarray,
) -> None:
    """Convolution (or linear map, a filter of one position) of spikes, a residual stream, and the next neuron.

    index, count: spikes at the positions of `space` (B, H, W). filter_: rows, columns and padding of the filter.
    weight_IN: int8 or float32, a row for each filter position and input, N filled up to a multiple of 32; scale_N:
    what 1 in the weights stands for. stream_TPN: real-valued, the result is added into it; currents_TPN: where the
    result is written; neuron: `parameters` of the neuron that reads it. Each may be absent (no rows; kind NONE).
    """
    T = count.shape[0]
    B, H, W = space
    R, S, padding = filter_
    height, width = H + 2 * padding - R + 1, W + 2 * padding - S + 1
    positions, columns = B * height * width, scale_N.size
    sources, room = index.shape[1:]
    inputs = weight_IN.shape[0] // (R * S)
    chunks = min(positions, 64)
    for chunk_ in prange(chunks):
        chunk = np.int64(chunk_)  # numba counts in uint64, whose sum with an int64 is a float
        sums_N = empty_sums(weight_IN, columns)
        wide_N = np.zeros(columns, np.int32)
        list_ = np.empty(R * S * room, np.uint16)  # what the filter sees, as rows of the weights
        x_N, v_N = np.empty(columns, np.float32), np.empty(columns, np.float32)
        level_N = np.zeros(columns, np.uint8)
        for p in range(chunk * positions // chunks, (chunk + 1) * positions // chunks):
            b, corner = divmod(p, height * width)
            top, left = corner // width - padding, corner % width - padding
            rest(v_N, neuron)
            for t in range(T):
                sums_N[:] = 0
                wide_N[:] = 0
                rows, address = 0, list_.ctypes.data
                for r in range(max(0, -top), min(R, H - top)):
                    for s in range(max(0, -left), min(S, W - left)):
                        place = (b * H + top + r) * W + left + s
                        spikes = count[t, place]
                        source = index.ctypes.data + 2 * room * (t * sources + place)
                        if R * S == 1:
                            address = source
                        else:
                            first = (r * S + s) * inputs
                            copy_shifted(address + 2 * rows, source, spikes, first)  # type: ignore[call-arg]
                        rows += spikes
                accumulate(sums_N, wide_N, address, rows, weight_IN)
                for n in range(columns):
                    x_N[n] = total(sums_N, wide_N, n) * scale_N[n] + bias_N[n]
                _settle(t, p, x_N, v_N, level_N, stream_TPN, currents_TPN, neuron, out_index, out_count)


@njit(parallel=True, cache=True, nogil=True)
def settle(
    sums_RN: np.ndarray,
    scale_N: np.ndarray,
    bias_N: np.ndarray,
    stream_TPN: np.ndarray,
    currents_TPN: np.ndarray,
    neuron: np.ndarray,
    out_index: np.ndarray,
    out_count: np.ndarray,
) -> None:
    """What `synapses` does behind its sums, for the sums (T * P, N) of a dense product."""
    T = max(stream_TPN.shape[0], currents_TPN.shape[0], out_count.shape[0])
    positions, outputs = sums_RN.shape[0] // T, sums_RN.shape[1]
    chunks = min(positions, 64)
    for chunk_ in prange(chunks):
        chunk = np.int64(chunk_)
        x_N, v_N = bias_N.copy(), np.empty(bias_N.size, np.float32)
        level_N = np.zeros(bias_N.size, np.uint8)
        for p in range(chunk * positions // chunks, (chunk + 1) * positions // chunks):
            rest(v_N, neuron)
            for t in range(T):
                row_N = sums_RN[t * positions + p]
                for n in range(outputs):
                    x_N[n] = np.float32(row_N[n]) * scale_N[n] + bias_N[n]
                _settle(t, p, x_N, v_N, level_N, stream_TPN, currents_TPN, neuron, out_index, out_count)


@njit(parallel=True, cache=True, nogil=True)
def unfold(
    index: np.ndarray,
    count: np.ndarray,
    space: tuple[int, int, int],
    filter_: tuple[int, int, int],
    out_RK: np.ndarray,
) -> None:
    """Write what every filter position sees as rows of levels (T * P, K * inputs), zeros outside, any dtype."""
    T = count.shape[0]
    B, H, W = space
    R, S, padding = filter_
    height, width = H + 2 * padding - R + 1, W + 2 * padding - S + 1
    inputs = out_RK.shape[1] // (R * S)
    for line_ in prange(T * B * height):
        line = np.int64(line_)
        image, y = divmod(line, height)
        t, b = divmod(image, B)
        for x in range(width):
            row = out_RK[line * width + x]
            row[:] = 0
            for r in range(max(0, padding - y), min(R, H + padding - y)):
                for s in range(max(0, padding - x), min(S, W + padding - x)):
                    source, start = (b * H + y + r - padding) * W + x + s - padding, (r * S + s) * inputs
                    for i in range(count[t, source]):
                        row[start + index[t, source, i]] += 1


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
    T, levels = out_count.shape[0], int(neuron[6])
    columns = (N + LIST_LANES - 1) // LIST_LANES * LIST_LANES
    for line_ in prange(B * height):
        line = np.int64(line_)
        b, y = divmod(line, height)
        x_N = np.full(columns, NEVER)
        v_N, level_N = np.empty(columns, np.float32), np.zeros(columns, np.uint8)
        top = y * stride - padding
        for x in range(width):
            left, p = x * stride - padding, line * width + x
            rest(v_N, neuron)
            for t in range(T):
                if t < steps:
                    x_N[:N] = -np.inf
                    for i in range(max(0, top), min(H, top + size)):
                        for j in range(max(0, left), min(W, left + size)):
                            current_N = currents_TBHWN[t, b, i, j]
                            for n in range(N):
                                x_N[n] = max(x_N[n], current_N[n])
                fire(x_N, v_N, level_N, neuron)
                out_count[t, p] = list_spikes(level_N, levels, out_index[t, p])


@njit(parallel=True, cache=True, nogil=True)
def levels_of(index: np.ndarray, count: np.ndarray, level_TPN: np.ndarray) -> None:
    """Write the dense levels (T, P, N) uint8 that lists of spikes stand for."""
    T, positions = count.shape
    for p in prange(positions):
        for t in range(T):
            level_TPN[t, p] = 0
            for i in range(count[t, p]):
                level_TPN[t, p, index[t, p, i]] += 1
