"""Dot products of one vector with many rows of 16-bit floats, read once and summed in 32 bits."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from spikeclip.compiled import compiled

_PART = 8192
"""Rows that a thread takes at least: fewer are done before it has begun."""


@intrinsic
def half(typing_context, bits):  # noqa: ANN001, ANN201
    """Return the number that 16 bits stand for; the processor converts as many at a time as it can."""

    def codegen(context, builder, signature, args):  # noqa: ANN001
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), codegen


def _dots(rows_ND: np.ndarray, at_K: np.ndarray, vector_D: np.ndarray, out_N: np.ndarray) -> None:
    for i in range(out_N.shape[0]):
        row_D = rows_ND[at_K[i] if at_K.shape[0] else i]
        total = np.float32(0)
        for j in range(row_D.shape[0]):
            total += half(row_D[j]) * vector_D[j]  # type: ignore
        out_N[i] = total


_KERNEL = compiled(_dots, nogil=True, fastmath=True)
_ALL = np.empty(0, np.int64)


def dots(rows_ND: np.ndarray, vector_D: np.ndarray, at_K: np.ndarray | None = None) -> np.ndarray:
    """Return the dot products (N,) float32 of a vector (D,) float32 with rows (N, D) float16, on all processors.

    at_K: the places of the rows to be read, (K,) int64, where not all are; the products are then (K,).
    """
    bits_ND = rows_ND.view(np.uint16)
    out_N = np.empty(len(rows_ND) if at_K is None else len(at_K), np.float32)

    def work(start: int, stop: int) -> None:
        rows, at = (bits_ND[start:stop], _ALL) if at_K is None else (bits_ND, at_K[start:stop])
        _KERNEL(rows, at, vector_D, out_N[start:stop])

    in_parts(work, len(out_N))
    return out_N


def in_parts(work: Callable[[int, int], object], count: int) -> None:
    """Call `work` from one row to another, for all rows, on all processors where there are enough of them."""
    parts = max(1, min(os.cpu_count() or 1, count // _PART))
    if parts == 1:
        work(0, count)
        return
    ends = [count * part // parts for part in range(parts + 1)]
    list(_pool().map(lambda pair: work(*pair), itertools.pairwise(ends)))


def best(scores_N: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the `count` highest scores, best first, equal ones in their order; NaN is none."""
    places_N = np.arange(len(scores_N))
    if 0 < count < len(scores_N):
        least = np.partition(scores_N, len(scores_N) - count)[len(scores_N) - count]
        places_N = np.flatnonzero(scores_N >= least)
    return places_N[np.argsort(-scores_N[places_N], kind="stable")][:count]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, "spikeclip-search")
