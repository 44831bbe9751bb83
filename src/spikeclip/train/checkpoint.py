"""Checkpoints that an interruption cannot spoil."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch

from spikeclip.errors import InputError, first_line
from spikeclip.files import replacing

FORMAT = 3
"""Raised when a training would not go on from an older checkpoint as it began: 3 has a seed for each stage."""
_ANEW = ": remove it to start anew"  # an ablation or a sweep has no --overwrite


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values), all of it or nothing; raises `InputError` where the disk is full."""
    with replacing(path) as file:
        torch.save({"format": FORMAT, **state}, file)


def load_checkpoint(path: Path, keys: Collection[str] = ()) -> dict[str, Any]:
    """Read a checkpoint; raises `InputError` where there is none, or one that cannot be read or continued.

    keys: what it must hold.
    """
    if not path.is_file():
        raise InputError(f"nothing to resume: {path} does not exist")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} is not a readable checkpoint ({first_line(error)}){_ANEW}") from error
    if not isinstance(state, dict):
        raise InputError(f"{path} is not a readable checkpoint (it holds a {type(state).__name__}){_ANEW}")
    if state.pop("format", 1) != FORMAT:
        raise InputError(
            f"{path} was written by another version of spikeclip, whose random numbers are others: remove it to start "
            "anew, or finish with that version"
        )
    if lacking := [key for key in keys if key not in state]:
        raise InputError(f"{path} is not a readable checkpoint (it lacks {', '.join(lacking)}){_ANEW}")
    return state


@contextlib.contextmanager
def fitting() -> Iterator[None]:
    """Raise `InputError` where what a checkpoint holds does not fit the training that it is given to."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"the checkpoint does not fit this training ({reason}){_ANEW}") from error
