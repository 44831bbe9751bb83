"""What the kernels ask of memory: the elements of a time step lie in one order in every tensor of a call."""

from __future__ import annotations

import torch
from torch import Tensor


def result_like(x_TX: Tensor) -> Tensor:
    """Return memory for a result: time steps one after another, each in the layout of those of `x_TX`."""
    x_X = torch.empty_like(x_TX[0], device="meta")  # dense, whatever x_TX is
    strides = (x_X.numel(), *x_X.stride())
    return torch.empty_strided(x_TX.shape, strides, dtype=x_TX.dtype, device=x_TX.device)


def in_order(y_TX: Tensor, result_TX: Tensor) -> Tensor:
    """Return `y_TX`, copied unless the elements of a time step lie in memory as those of the result do."""
    strides = zip(y_TX.shape[1:], y_TX.stride()[1:], result_TX.stride()[1:], strict=True)
    if all(ours == theirs for size, ours, theirs in strides if size > 1):
        return y_TX
    copy = torch.empty_strided(y_TX.shape, result_TX.stride(), dtype=y_TX.dtype, device=y_TX.device)
    return copy.copy_(y_TX)


def state_in_order(y_X: Tensor | None, result_TX: Tensor) -> Tensor | None:
    """As `in_order`, for one time step or none."""
    return None if y_X is None else in_order(y_X[None], result_TX)[0]
