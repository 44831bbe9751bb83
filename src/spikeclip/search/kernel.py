"""Dot products of one vector with many rows of 16-bit floats, read once and summed in 32 bits."""

from __future__ import annotations

import itertools
import os
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
def _float(typing_context, bits):  # noqa: ANN001
    """Return the number that 16 bits stand for; the processor converts as many at a time as it can."""

    def codegen(context, builder, signature, args):  # noqa: ANN001
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), codegen


def _dots(rows_ND: np.ndarray, vector_D: np.ndarray, out_N: np.ndarray) -> None:
    for i in range(rows_ND.shape[0]):
        total = np.float32(0)
        for j in range(rows_ND.shape[1]):
            total += _float(rows_ND[i, j]) * vector_D[j]  # type: ignore
        out_N[i] = total


_KERNEL = compiled(_dots, nogil=True, fastmath=True)


def dots(rows_ND: np.ndarray, vector_D: np.ndarray) -> np.ndarray:
    """Return the dot products (N,) float32 of a vector (D,) float32 with rows (N, D) float16, on all processors."""
    bits_ND, out_N = rows_ND.view(np.uint16), np.empty(len(rows_ND), np.float32)
    parts = max(1, min(os.cpu_count() or 1, len(rows_ND) // _PART))
    if parts == 1:
        _KERNEL(bits_ND, vector_D, out_N)
        return out_N
    ends = [len(rows_ND) * part // parts for part in range(parts + 1)]
    pairs = itertools.pairwise(ends)
    list(_pool().map(lambda pair: _KERNEL(bits_ND[slice(*pair)], vector_D, out_N[slice(*pair)]), pairs))
    return out_N


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
