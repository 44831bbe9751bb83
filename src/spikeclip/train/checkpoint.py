"""Checkpoints that an interruption cannot spoil."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from spikeclip.errors import InputError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) by way of a temporary file, fsync and rename."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; raises `InputError` where there is none or it is not readable."""
    if not path.is_file():
        raise InputError(f"nothing to resume: {path} does not exist")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is not a readable checkpoint: {reason}") from error
