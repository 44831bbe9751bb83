"""Sums of the weight rows that lists of spikes name, in int8 and in fp32."""

from __future__ import annotations

import numpy as np
from numba import njit

from spikeclip.engine.vector import add_vectors, sum_rows

SAFE_ROWS = 258
"""Rows of int8 weights (at most 127 in size) whose sum cannot leave int16: 258 * 127 = 32,766."""


@njit(inline="always")
def channel(entry: int, x: int, channels: int) -> np.int64:
    """Return the channel that an entry at position x of a line stands for."""
    return (np.int64(entry) - x * channels) & 0xFFFF


@njit(inline="always")
def floats(rows: int, columns: int) -> np.ndarray:
    """Return float32 (rows, columns) of any content that begins with a line of the cache, see `vector.empty`."""
    size = rows * columns
    buffer = np.empty(size + 16, np.float32)
    start = -buffer.ctypes.data % 64 // 4
    return buffer[start : start + size].reshape(rows, columns)


@njit(inline="always")
def accumulate(sums: int, spare: int, rows: int, count: int, weight_IN: np.ndarray) -> None:
    """Write the sum (N float32) of the weight rows that a list of uint16 names; sums, spare, rows are addresses.

    As many rows as int16 can hold are summed in it; those sums are added in float32, which is exact up to 2^24.
    """
    sum_rows(sums, rows, min(count, SAFE_ROWS), weight_IN)  # type: ignore[call-arg]
    if count > SAFE_ROWS:
        for first in range(SAFE_ROWS, count, SAFE_ROWS):
            sum_rows(spare, rows + 2 * first, min(count - first, SAFE_ROWS), weight_IN)  # type: ignore[call-arg]
            add_vectors(sums, spare, weight_IN.shape[1])  # type: ignore[call-arg]
