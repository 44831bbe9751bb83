"""Spiking attention on lists of spikes: (q k^T) v summed as q (k^T v), which is exact in integers."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from spikeclip.engine.neuron import NEVER, settle
from spikeclip.engine.rows import channel
from spikeclip.engine.vector import LIST_LANES, add_vectors


@njit(parallel=True, cache=True, nogil=True)
def attend(
    q_index: np.ndarray,
    q_ends: np.ndarray,
    k_index: np.ndarray,
    k_ends: np.ndarray,
    v_index: np.ndarray,
    v_ends: np.ndarray,
    mask_BN: np.ndarray,
    width: int,
    num_heads: int,
    scale: float,
    neuron: np.ndarray,
    kv_RD: np.ndarray,
    out_index: np.ndarray,
    out_ends: np.ndarray,
) -> None:
    """Attention of tokens (T, B * N) of `width` channels, and the neuron behind it.

    Every spike of a query adds one row of k^T v, every spike of a key one row of v. mask_BN: tokens whose keys
    count. kv_RD: float32, room for k^T v (T, B, width, D), a row of it the values of a head, filled up to a multiple
    of 16. out_index, out_ends: the neuron's spikes.
    """
    lines, T = q_ends.shape[:2]
    X = q_ends.shape[2] - 1  # tokens of a line
    B, N = mask_BN.shape
    head, room = width // num_heads, kv_RD.shape[1]
    # By channel: the first one of its head, in the sums and where every head is filled up, and the channel there.
    first_C = np.arange(width) // head * head
    start_C = first_C // head * room
    slot_C = start_C + np.arange(width) - first_C
    no_currents = np.empty((0, 0, 0, width), np.float32)
    columns = (width + LIST_LANES - 1) // LIST_LANES * LIST_LANES
    scale_N, bias_N = np.full(columns, np.float32(scale)), np.full(columns, NEVER)
    bias_N[:width] = 0
    # Integers, exact in float32 up to 2^24.
    for item in prange(T * B):
        t, b = divmod(np.int64(item), B)
        kv_RD[item * width : (item + 1) * width] = 0
        v_D = np.zeros(num_heads * room, np.float32)
        for token in range(N):
            line, x = divmod(b * N + token, X)
            k_list = k_index[line, t, k_ends[line, t, x] : k_ends[line, t, x + 1]]
            v_list = v_index[line, t, v_ends[line, t, x] : v_ends[line, t, x + 1]]
            if not mask_BN[b, token] or k_list.size == 0 or v_list.size == 0:
                continue
            v_D[:] = 0
            for entry in v_list:
                v_D[slot_C[channel(entry, x, width)]] += 1
            for entry in k_list:
                c = channel(entry, x, width)
                row = kv_RD.ctypes.data + 4 * room * ((t * B + b) * width + c)
                add_vectors(row, v_D.ctypes.data + 4 * start_C[c], room)  # type: ignore[call-arg]
    for p_ in prange(lines):
        line = np.int64(p_)
        b = line * X // N
        # Room behind: a head that is filled up ends behind its own columns, where it adds zeros.
        x_N, room_2N = np.empty(columns + room, np.float32), np.empty((2, columns), np.float32)
        for x in range(X):
            for t in range(T):
                x_N[:] = 0
                for entry in q_index[line, t, q_ends[line, t, x] : q_ends[line, t, x + 1]]:
                    c = channel(entry, x, width)
                    row = kv_RD.ctypes.data + 4 * room * ((t * B + b) * width + c)
                    add_vectors(x_N.ctypes.data + 4 * first_C[c], row, room)  # type: ignore[call-arg]
                settle(
                    line, x, t, x_N[:columns], scale_N, bias_N, no_currents, False, neuron, width,
                    out_index, out_ends, room_2N,
                )  # type: ignore[call-arg]  # fmt: skip
