"""Spiking attention on lists of spikes: (q k^T) v summed as q (k^T v), which is exact in integers."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from spikeclip.engine.neuron import NEVER, fire, list_spikes, rest
from spikeclip.engine.vector import FP32_LANES, LIST_LANES, add_vectors


@njit(parallel=True, cache=True, nogil=True)
def attend(
    q_index: np.ndarray,
    q_count: np.ndarray,
    k_index: np.ndarray,
    k_count: np.ndarray,
    v_index: np.ndarray,
    v_count: np.ndarray,
    mask_BN: np.ndarray,
    width: int,
    num_heads: int,
    scale: float,
    neuron: np.ndarray,
    out_index: np.ndarray,
    out_count: np.ndarray,
) -> None:
    """Attention of tokens (T, B * N) of `width` channels, and the neuron behind it.

    Every spike of a query adds one row of k^T v, every spike of a key one row of v. mask_BN: tokens whose keys
    count. out_index, out_count: the neuron's spikes.
    """
    T = q_count.shape[0]
    B, N = mask_BN.shape
    head, levels = width // num_heads, int(neuron[6])
    room = (head + FP32_LANES - 1) // FP32_LANES * FP32_LANES  # a head's values, filled up to whole vectors
    start_C, slot_C = np.empty(width, np.int64), np.empty(width, np.int64)
    for c in range(width):
        start_C[c] = c // head * room
        slot_C[c] = start_C[c] + c % head
    columns = (width + LIST_LANES - 1) // LIST_LANES * LIST_LANES
    # Integers, exact in float32 up to 2^24.
    kv_RD = np.zeros((T * B * width, room), np.float32)  # row of a channel: the values of its head
    for item in prange(T * B):
        t, b = divmod(np.int64(item), B)
        v_D = np.zeros(num_heads * room, np.float32)
        for token in range(N):
            p = b * N + token
            if not mask_BN[b, token] or k_count[t, p] == 0 or v_count[t, p] == 0:
                continue
            v_D[:] = 0
            for i in range(v_count[t, p]):
                v_D[slot_C[v_index[t, p, i]]] += 1
            for i in range(k_count[t, p]):
                c = np.int64(k_index[t, p, i])
                row = kv_RD.ctypes.data + 4 * room * ((t * B + b) * width + c)
                add_vectors(row, v_D.ctypes.data + 4 * start_C[c], room)  # type: ignore[call-arg]
    for p_ in prange(B * N):
        p = np.int64(p_)
        b = p // N
        x_N, v_N = np.full(columns, NEVER), np.empty(columns, np.float32)
        sums_D, level_N = np.empty(num_heads * room, np.float32), np.zeros(columns, np.uint8)
        rest(v_N, neuron)
        for t in range(T):
            sums_D[:] = 0
            for i in range(q_count[t, p]):
                c = np.int64(q_index[t, p, i])
                row = kv_RD.ctypes.data + 4 * room * ((t * B + b) * width + c)
                add_vectors(sums_D.ctypes.data + 4 * start_C[c], row, room)  # type: ignore[call-arg]
            for c in range(width):
                x_N[c] = sums_D[slot_C[c]] * np.float32(scale)
            fire(x_N, v_N, level_N, neuron)
            out_count[t, p] = list_spikes(level_N, levels, out_index[t, p])
