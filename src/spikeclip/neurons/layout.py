"""The memory layout that the kernels need: elements of a time step have the same order in every tensor of a call."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def result_like(x_TX: Tensor) -> Tensor:
    """Return memory for a result: time steps one after another, each in the layout of those of `x_TX`."""
    x_X = torch.empty_like(x_TX[0], device="meta")  # dense, whatever x_TX is
    strides = (x_X.numel(), *x_X.stride())
    if not x_TX.is_cpu:
        return torch.empty_strided(x_TX.shape, strides, dtype=x_TX.dtype, device=x_TX.device)
    # PyTorch asks for aligned memory, and glibc does not give a freed block to an aligned request for as much again
    # (sourceware.org bug 14581). What malloc gives, as NumPy calls it, fills the holes that leaves.
    memory = torch.from_numpy(np.empty(x_TX.numel() * x_TX.element_size(), np.uint8)).untyped_storage()
    return torch.empty(0, dtype=x_TX.dtype).set_(memory, 0, x_TX.shape, strides)


def in_order(y_TX: Tensor, result_TX: Tensor) -> Tensor:
    """Return `y_TX`, copied unless the elements of a time step lie in memory as those of the result do."""
    strides = zip(y_TX.shape[1:], y_TX.stride()[1:], result_TX.stride()[1:], strict=True)
    if all(stride == wanted for size, stride, wanted in strides if size > 1):
        return y_TX
    copy = torch.empty_strided(y_TX.shape, result_TX.stride(), dtype=y_TX.dtype, device=y_TX.device)
    return copy.copy_(y_TX)


def state_in_order(y_X: Tensor | None, result_TX: Tensor) -> Tensor | None:
    """As `in_order`, for one time step or none."""
    return None if y_X is None else in_order(y_X[None], result_TX)[0]
