"""Convolution of every channel alone: levels times weights, dense, because a spike has only a few weights to add."""

from __future__ import annotations

import numpy as np
from numba import types

from spikeclip.engine.threads import Kernel


def _filter_channels(
    first: int,
    last: int,
    level_BHWC: np.ndarray,
    weight_RSC: np.ndarray,
    scale_C: np.ndarray,
    bias_C: np.ndarray,
    start: tuple[int, int, int],
    out_BHWC: np.ndarray,
) -> None:
    """Write the currents: sums in float32, of whole numbers if the weights are, times scale, and bias.

    A line is a row of one picture's output. start: padding before the first row and column, stride, and unused.
    """
    _, H, W, _ = level_BHWC.shape
    R, S, channels = weight_RSC.shape
    padding, stride, _ = start
    height, width = out_BHWC.shape[1:3]
    for line in range(first, last):
        b, y = divmod(line, height)
        for x in range(width):
            out_C = out_BHWC[b, y, x]
            out_C[:] = 0
            for r in range(R):
                i = y * stride - padding + r
                if i < 0 or i >= H:
                    continue
                for s in range(S):
                    j = x * stride - padding + s
                    if j < 0 or j >= W:
                        continue
                    level_C, weight_C = level_BHWC[b, i, j], weight_RSC[r, s]
                    for c in range(channels):
                        out_C[c] += level_C[c] * weight_C[c]
            for c in range(channels):
                out_C[c] = out_C[c] * scale_C[c] + bias_C[c]


filter_channels = Kernel(
    "filter_channels", _filter_channels, types.uint8[:, :, :, ::1], types.float32[:, :, ::1],
    types.float32[::1], types.float32[::1], types.UniTuple(types.intp, 3), types.float32[:, :, :, ::1],
)  # fmt: skip
