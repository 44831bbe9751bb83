"""Checkpoints that an interruption cannot spoil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from spikeclip.errors import InputError
from spikeclip.files import replacing

FORMAT = 2
"""Raised when a training would not go on from an older checkpoint as it began: 2 draws by seed, epoch and index."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values), all of it or nothing; raises `InputError` where the disk is full."""
    with replacing(path) as file:
        torch.save({"format": FORMAT, **state}, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; raises `InputError` where there is none, or one that cannot be read or continued."""
    if not path.is_file():
        raise InputError(f"nothing to resume: {path} does not exist")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is not a readable checkpoint: {reason}") from error
    if state.pop("format", 1) != FORMAT:
        raise InputError(
            f"{path} was written by another version of spikeclip, whose random numbers are others: remove it to start "
            "anew, or finish with that version"
        )
    return state
