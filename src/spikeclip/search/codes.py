"""A first look over many rows by one bit a number, which leaves few to be compared exactly.

The code of a row is the signs of its difference from the mean of all. The numbers of a query are rounded to a sign and
four bits, so that its product with a code is a count of bits, as in RaBitQ (arXiv 2405.12497); what query and rows have
in common with the mean is taken exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import types
from numba.extending import intrinsic

from spikeclip.compiled import compiled
from spikeclip.search.kernel import half, in_parts

_LEAST = 10_000
"""Rows that are compared exactly at least: where there are no more, all are."""
_SHARE = 0.02
"""Of many rows, those that are compared exactly."""
_TIMES = 20
"""For each row that is asked for, so many are compared exactly."""
_SAMPLE = 10_000
"""Rows, of all of them at equal distances, whose mean is taken."""
_LEVELS = 15
"""Of a number of the query, in four bits."""
_CLIP = 4.0
"""Times the root mean square of a query, beyond which its numbers are cut off: a few large ones are common."""
_BLOCK = 1024
_FINE = np.float32(8192)
"""Steps of 1 in an estimate."""
_MOST = np.float32(3.99)


@intrinsic
def _ones(typing_context, word):  # noqa: ANN001
    """Return how many bits of a word are set."""

    def codegen(context, builder, signature, args):  # noqa: ANN001
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@dataclass(frozen=True)
class Codes:
    """words: bits of N rows, 64 numbers each, (W, N) uint64.

    scales: of each row, the length that its signs stand for, and its product with the mean, (2, N) float32.
    """

    mean_D: np.ndarray
    words_WN: np.ndarray
    scales_2N: np.ndarray

    def candidates(
        self, vector_D: np.ndarray, count: int, at_K: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Return the places of the rows (M,), ascending, that seem nearest to a vector (D,); None for all rows.

        count: how many of them will be asked for. at_K: the places of the only rows that are wanted.
        """
        most = max(_LEAST, round(_SHARE * self.words_WN.shape[1]))
        while most < _TIMES * count:  # doubled, so that the pages of one query mostly come from the same rows
            most *= 2
        if most >= (self.words_WN.shape[1] if at_K is None else len(at_K)):
            return at_K
        estimates_N = self._estimates(vector_D)
        if at_K is not None:
            estimates_N = estimates_N[at_K]
        least = np.partition(estimates_N, -most)[-most]
        found = np.flatnonzero(estimates_N >= least)
        return found if at_K is None else at_K[found]

    def _estimates(self, vector_D: np.ndarray) -> np.ndarray:
        """Return about the products of a vector with all rows (N,) int16, in steps, less its product with the mean."""
        square = float(self.mean_D @ self.mean_D)
        common = float(vector_D @ self.mean_D) / square if square else 0.0
        rest_D = vector_D - np.float32(common) * self.mean_D
        sizes_D = np.abs(rest_D)
        step = min(float(sizes_D.max()), _CLIP * float(np.sqrt(np.mean(sizes_D**2)))) / _LEVELS or 1.0
        levels_D = np.minimum(np.rint(sizes_D / step), _LEVELS).astype(np.uint8)
        bits = np.zeros((5, 64 * len(self.words_WN)), bool)
        bits[0, : len(rest_D)] = rest_D > 0
        bits[1:, : len(rest_D)] = levels_D >> np.arange(4)[:, None] & 1
        query_5W = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
        numbers = np.array([step * levels_D.sum(), -2 * step, common], np.float32)
        out_N = np.empty(self.words_WN.shape[1], np.int16)
        in_parts(
            lambda start, stop: _ESTIMATE(
                self.words_WN, self.scales_2N, query_5W, numbers, start, stop, out_N
            ),
            len(out_N),
        )
        return out_N


def encode(rows_ND: np.ndarray) -> Codes:
    """Return the codes of rows (N, D) float16, which depend on these rows alone."""
    sample = rows_ND[:: max(1, len(rows_ND) // _SAMPLE)].astype(np.float32)
    sample = sample[np.isfinite(sample).all(axis=1)]
    mean_D = sample.sum(axis=0) / np.float32(max(1, len(sample)))
    words_WN = np.empty((-(-rows_ND.shape[1] // 64), len(rows_ND)), np.uint64)
    scales_2N = np.empty((2, len(rows_ND)), np.float32)
    bits_ND = rows_ND.view(np.uint16)
    in_parts(lambda start, stop: _ENCODE(bits_ND, mean_D, words_WN, scales_2N, start, stop), len(rows_ND))
    return Codes(mean_D, words_WN, np.nan_to_num(scales_2N, copy=False, posinf=0, neginf=0))


def _encode(
    rows_ND: np.ndarray,
    mean_D: np.ndarray,
    words_WN: np.ndarray,
    scales_2N: np.ndarray,
    start: int,
    stop: int,
) -> None:
    for i in range(start, stop):
        sizes = squares = product = np.float32(0)
        for w in range(words_WN.shape[0]):
            row_J, mean_J = rows_ND[i, 64 * w : 64 * w + 64], mean_D[64 * w : 64 * w + 64]
            word = np.uint64(0)
            for j in range(row_J.shape[0]):
                rest = half(row_J[j]) - mean_J[j]  # type: ignore
                word |= np.uint64(rest > 0) << np.uint64(j)
                sizes += abs(rest)
                squares += rest * rest
                product += rest * mean_J[j]
            words_WN[w, i] = word
        scales_2N[0, i] = squares / sizes if sizes else np.float32(0)
        scales_2N[1, i] = product


def _estimate(
    words_WN: np.ndarray,
    scales_2N: np.ndarray,
    query_5W: np.ndarray,
    numbers: np.ndarray,
    start: int,
    stop: int,
    out_N: np.ndarray,
) -> None:
    apart_I = np.empty(_BLOCK, np.uint64)
    for first in range(start, stop, _BLOCK):
        end = min(first + _BLOCK, stop)
        apart_I[:] = 0
        for w in range(words_WN.shape[0]):
            words_I = words_WN[w, first:end]
            side, one, two, four, eight = query_5W[:, w]
            for i in range(words_I.shape[0]):
                word = words_I[i] ^ side
                count = _ones(word & one) + (_ones(word & two) << np.uint64(1))  # type: ignore
                count += (_ones(word & four) << np.uint64(2)) + (_ones(word & eight) << np.uint64(3))  # type: ignore
                apart_I[i] += count
        lengths_I, common_I, out_I = scales_2N[0, first:end], scales_2N[1, first:end], out_N[first:end]
        for i in range(out_I.shape[0]):
            signed = numbers[0] + numbers[1] * np.float32(np.int32(apart_I[i]))
            product = lengths_I[i] * signed + common_I[i] * numbers[2]
            out_I[i] = np.int16(min(max(product, -_MOST), _MOST) * _FINE)


# A row that is not all numbers has an estimate of 0: no `nnan` here.
_ENCODE = compiled(_encode, nogil=True, fastmath={"reassoc", "contract", "nsz"})
_ESTIMATE = compiled(_estimate, nogil=True, fastmath=True)
