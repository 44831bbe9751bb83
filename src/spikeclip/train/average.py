"""Exponential moving average of the weights, which jumps less than they do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, _foreach_copy_, _foreach_lerp_, nn  # type: ignore

WARM_UP = 10
"""The average of the first steps is over fewer: at step t the share of the old is at most (1 + t) / (WARM_UP + t)."""


class Average:
    """The moving average of the weights and running statistics of some parts of a model; empty for a decay of 0.

    parts: first words of names in the model's state. decay: share of the old average that a step leaves.
    """

    def __init__(self, model: nn.Module, parts: Iterable[str], decay: float) -> None:
        self.decay, parts = decay, set(parts)
        self._now = {
            name: value
            for name, value in model.state_dict().items()
            if decay and value.is_floating_point() and name.split(".")[0] in parts
        }
        self.values = {name: value.clone() for name, value in self._now.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights that step `step`, counted from 0, has left."""
        if self.values:
            share = 1 - min(self.decay, (1 + step) / (WARM_UP + step))
            _foreach_lerp_(list(self.values.values()), list(self._now.values()), share)

    @torch.no_grad()
    def load(self, saved: dict[str, Tensor]) -> None:
        """Go on from the values of another."""
        for name, value in self.values.items():
            value.copy_(saved[name])

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Give the model the average inside the `with` block, and its own weights back after it."""
        if not self.values:
            yield
            return
        now = list(self._now.values())
        with torch.no_grad():
            own = [value.clone() for value in now]
            _foreach_copy_(now, list(self.values.values()))
        try:
            yield
        finally:
            with torch.no_grad():
                _foreach_copy_(now, own)
