"""Activations that backward computes again instead of keeping them from forward.

Currents and spikes follow at little cost from the outputs of convolutions and linear maps. So a tower in training keeps
those outputs and, in backward, runs normalisation and neurons once more (Chen et al., 1604.06174).
With one time step there is little to save, and all is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_enabled: ContextVar[bool] = ContextVar("enabled", default=True)
_second_time: ContextVar[bool] = ContextVar("second_time", default=False)


def recomputed(function: Callable, x_TX: Tensor, *inputs: Any) -> Any:
    """Return function(x_TX, *inputs); for backward only the inputs are kept.

    torch.compile makes that choice by itself.
    """
    if torch.compiler.is_compiling() or len(x_TX) == 1 or not (torch.is_grad_enabled() and _enabled.get()):
        return function(x_TX, *inputs)
    return checkpoint(
        function, x_TX, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=_first_and_second
    )


def second_time() -> bool:
    """Whether this is the run in backward, which must leave running statistics as they are."""
    return not torch.compiler.is_compiling() and _second_time.get()


@contextmanager
def keep_activations() -> Iterator[None]:
    """Recompute nothing inside the `with` block: for neurons that keep a state from call to call."""
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


def _first_and_second() -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _again()


@contextmanager
def _again() -> Iterator[None]:
    token = _second_time.set(True)
    try:
        yield
    finally:
        _second_time.reset(token)
