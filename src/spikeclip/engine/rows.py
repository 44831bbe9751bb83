"""Sums of the weight rows that lists of spikes name, in int8 and in fp32."""

from __future__ import annotations

import numpy as np
from numba import njit

from spikeclip.engine.vector import add_vectors, sum_rows

SAFE_ROWS = 258
"""Rows of int8 weights (at most 127 in size) whose sum cannot leave int16: 258 * 127 = 32,766."""


@njit(cache=True, nogil=True)
def accumulate(sums: int, spare: int, lists_K3: np.ndarray, count: int, weight_IN: np.ndarray) -> None:
    """Write the sums (float32) of the weight rows that the first lists name; sums and spare are addresses.

    lists_K3: see `sum_rows`, each at most SAFE_ROWS long. As many together as int16 can hold are summed in it;
    those sums are added in float32, which is exact up to 2^24.
    """
    first, rows, target = 0, 0, sums
    for k in range(count + 1):
        if k == count or rows + lists_K3[k, 1] > SAFE_ROWS:
            sum_rows(target, lists_K3.ctypes.data + 24 * first, k - first, weight_IN)  # type: ignore[call-arg]
            if target != sums:
                add_vectors(sums, target, weight_IN.shape[1])  # type: ignore[call-arg]
            first, rows, target = k, 0, spare
        if k < count:
            rows += lists_K3[k, 1]
