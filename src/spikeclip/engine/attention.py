"""Spiking attention on lists of spikes: (q k^T) v summed as q (k^T v), which is exact in integers."""

from __future__ import annotations

import numpy as np
from numba import types

from spikeclip.engine.neuron import NEVER, settle
from spikeclip.engine.rows import channel, floats
from spikeclip.engine.threads import Kernel
from spikeclip.engine.vector import LIST_LANES, add_vectors


def _keys_by_values(
    first: int,
    last: int,
    k_index: np.ndarray,
    k_ends: np.ndarray,
    v_index: np.ndarray,
    v_ends: np.ndarray,
    mask_BN: np.ndarray,
    num_heads: int,
    kv_RD: np.ndarray,
) -> None:
    """Write k^T v: every spike of a key adds one row of v. A line is one step of one picture or text, T * B of them.

    mask_BN: tokens whose keys count. kv_RD: float32 (T, B, width, D), a row of it the values of a head, filled up to
    a multiple of 16. Integers, exact in float32 up to 2^24.
    """
    X = k_ends.shape[2] - 1  # tokens of a line
    B, N = mask_BN.shape
    room, width = kv_RD.shape[1], kv_RD.shape[0] // (k_ends.shape[1] * B)
    head = width // num_heads
    # Where the head of a channel begins, and where the channel is.
    start_C, slot_C = np.empty(width, np.int64), np.empty(width, np.int64)
    for c in range(width):
        start_C[c] = c // head * room
        slot_C[c] = start_C[c] + c % head
    v_D = np.empty(num_heads * room, np.float32)
    for item in range(first, last):
        t, b = divmod(item, B)
        kv_RD[item * width : (item + 1) * width] = 0
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


def _attend(
    first: int,
    last: int,
    q_index: np.ndarray,
    q_ends: np.ndarray,
    kv_RD: np.ndarray,
    N: int,
    num_heads: int,
    scale: float,
    neuron: np.ndarray,
    out_index: np.ndarray,
    out_ends: np.ndarray,
) -> None:
    """Attention of lines of tokens, N of a picture or text, and the neuron behind it: a query adds rows of k^T v.

    kv_RD: what `keys_by_values` wrote. out_index, out_ends: the neuron's spikes.
    """
    lines, T = q_ends.shape[:2]
    X = q_ends.shape[2] - 1
    B = lines * X // N
    room, width = kv_RD.shape[1], kv_RD.shape[0] // (T * B)
    head = width // num_heads
    no_currents = np.empty((0, 0, 0, width), np.float32)
    columns = (width + LIST_LANES - 1) // LIST_LANES * LIST_LANES
    scale_N, bias_N = np.empty(columns, np.float32), np.empty(columns, np.float32)
    scale_N[:], bias_N[:], bias_N[:width] = scale, NEVER, 0
    # Room behind: a head that is filled up ends behind its own columns, where it adds zeros.
    x_TN, levels_TN = floats(T, columns + room), np.empty((T, columns), np.uint8)
    first_C = np.empty(width, np.int64)  # the first channel of a channel's head
    for c in range(width):
        first_C[c] = c // head * head
    for line in range(first, last):
        b = line * X // N
        for x in range(X):
            x_TN[:] = 0
            for t in range(T):
                x_N = x_TN[t]
                for entry in q_index[line, t, q_ends[line, t, x] : q_ends[line, t, x + 1]]:
                    c = channel(entry, x, width)
                    row = kv_RD.ctypes.data + 4 * room * ((t * B + b) * width + c)
                    add_vectors(x_N.ctypes.data + 4 * first_C[c], row, room)  # type: ignore[call-arg]
            settle(
                line, x, x_TN, scale_N, bias_N, no_currents, False, neuron, width, out_index, out_ends, levels_TN
            )  # type: ignore[call-arg]  # fmt: skip


_LISTS, _ENDS, _X, _XX = (
    types.uint16[:, :, ::1],
    types.int32[:, :, ::1],
    types.float32[::1],
    types.float32[:, ::1],
)
keys_by_values = Kernel(
    "keys_by_values", _keys_by_values, _LISTS, _ENDS, _LISTS, _ENDS, types.boolean[:, ::1], types.intp, _XX
)
attend = Kernel(
    "attend", _attend, _LISTS, _ENDS, _XX, types.intp, types.intp, types.float64, _X, _LISTS, _ENDS
)
