"""Random numbers of samples: each depends on the seed, the epoch and the sample's index, and on nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar
from zlib import crc32

import torch
from torch import Tensor

_Number = TypeVar("_Number", int, Tensor)

_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Draws:
    """What is drawn for some samples in one epoch, the same whoever else is in the batch or prepares it.

    indices_B: the samples' places in their data set, int64, on the device where the numbers are wanted.
    """

    seed: int
    epoch: int
    indices_B: Tensor

    def uniform(self, purpose: str) -> Tensor:
        """Return a number in [0, 1) for each sample (B,) float32; other purposes give independent ones.

        A hash of (seed, epoch, purpose, index): rounds of multiply and fold on 32 bits, as in MurmurHash3's finalizer.
        """
        key = _fold(_fold(_fold(self.seed & _MASK) ^ (self.seed >> 32 & _MASK)) ^ (self.epoch & _MASK))
        key = _fold(key ^ crc32(purpose.encode()))
        low_B, high_B = self.indices_B & _MASK, self.indices_B >> 32 & _MASK
        mixed_B = _fold(_fold(low_B + 0x9E3779B9 & _MASK) ^ high_B ^ key)
        return (_fold(mixed_B) >> 8).to(torch.float32) / 2**24

    def integers(self, purpose: str, low: int, high: int) -> Tensor:
        """Return a whole number from low to high, both possible, for each sample (B,) int64."""
        return low + (self.uniform(purpose) * (high - low + 1)).long().clamp(max=high - low)


def _fold(x: _Number) -> _Number:
    """Mix the bits of whole numbers of 32 bits, one or a tensor of them."""
    x = (x ^ (x >> 16)) * 0x85EBCA6B & _MASK
    x = (x ^ (x >> 13)) * 0xC2B2AE35 & _MASK
    return x ^ (x >> 16)
