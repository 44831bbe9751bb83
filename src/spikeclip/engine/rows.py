"""Sums of the weight rows that a list of spikes names, in int8 and in fp32."""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.extending import overload

from spikeclip.engine.vector import (
    add_fp32_16,
    add_fp32_64,
    add_fp32_192,
    add_int8_32,
    add_int8_64,
    add_int8_128,
    add_int8_384,
)

SAFE_ROWS = 258
"""Rows of int8 weights (at most 127 in size) whose sum cannot leave int16: 258 * 127 = 32,766."""


@njit(cache=True, nogil=True)
def _add_int8(sums_N: np.ndarray, index: int, count: int, weight_IN: np.ndarray) -> None:
    columns, base, stride = weight_IN.shape[1], weight_IN.ctypes.data, weight_IN.shape[1]
    sums, n = sums_N.ctypes.data, 0
    while n + 384 <= columns:
        add_int8_384(sums + 2 * n, index, count, base + n, stride)
        n += 384
    while n + 128 <= columns:
        add_int8_128(sums + 2 * n, index, count, base + n, stride)
        n += 128
    if n + 64 <= columns:
        add_int8_64(sums + 2 * n, index, count, base + n, stride)
        n += 64
    if n < columns:
        add_int8_32(sums + 2 * n, index, count, base + n, stride)


@njit(cache=True, nogil=True)
def _add_fp32(sums_N: np.ndarray, index: int, count: int, weight_IN: np.ndarray) -> None:
    columns, base, stride = weight_IN.shape[1], weight_IN.ctypes.data, weight_IN.shape[1]
    sums, n = sums_N.ctypes.data, 0
    while n + 192 <= columns:
        add_fp32_192(sums + 4 * n, index, count, base + 4 * n, stride)
        n += 192
    while n + 64 <= columns:
        add_fp32_64(sums + 4 * n, index, count, base + 4 * n, stride)
        n += 64
    while n < columns:
        add_fp32_16(sums + 4 * n, index, count, base + 4 * n, stride)
        n += 16


def empty_sums(weight_IN, columns):  # noqa: ANN001, ANN201
    """Return room for the sums of weight rows: int16 for int8 weights, else float32."""
    raise NotImplementedError("only inside compiled code")


@overload(empty_sums)
def _empty_sums(weight_IN, columns):  # noqa: ANN001
    dtype = np.int16 if weight_IN.dtype.bitwidth == 8 else np.float32
    return lambda weight_IN, columns: np.zeros(columns, dtype)


def accumulate(sums_N, wide_N, index, count, weight_IN):  # noqa: ANN001, ANN201
    """Add the weight rows that a list (an address and its length) names.

    int8 rows are summed in int16 (`sums_N`), emptied into int32 (`wide_N`) before they could overflow.
    """
    raise NotImplementedError("only inside compiled code")


@overload(accumulate)
def _accumulate(sums_N, wide_N, index, count, weight_IN):  # noqa: ANN001
    def fp32(sums_N, wide_N, index, count, weight_IN):  # noqa: ANN001
        _add_fp32(sums_N, index, count, weight_IN)

    def int8(sums_N, wide_N, index, count, weight_IN):  # noqa: ANN001
        while count > SAFE_ROWS:
            _add_int8(sums_N, index, SAFE_ROWS, weight_IN)
            for n in range(sums_N.size):
                wide_N[n] += sums_N[n]
                sums_N[n] = 0
            index, count = index + 2 * SAFE_ROWS, count - SAFE_ROWS
        _add_int8(sums_N, index, count, weight_IN)

    return int8 if weight_IN.dtype.bitwidth == 8 else fp32


def total(sums_N, wide_N, n):  # noqa: ANN001, ANN201
    """Return the n-th sum as float32."""
    raise NotImplementedError("only inside compiled code")


@overload(total, inline="always")
def _total(sums_N, wide_N, n):  # noqa: ANN001
    if sums_N.dtype.bitwidth == 16:
        return lambda sums_N, wide_N, n: np.float32(wide_N[n] + sums_N[n])
    return lambda sums_N, wide_N, n: sums_N[n]
