"""What a conversion goes on from after a kill."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spikeclip.errors import InputError, first_line
from spikeclip.files import replacing


@dataclass(frozen=True)
class Checkpoint:
    """file: None keeps nothing. key: of the network, pictures and settings; another conversion has another."""

    file: Path | None
    key: str

    def save(self, state: dict[str, Any]) -> None:
        """Write tensors and plain values, all of them or nothing."""
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.file) as file:
            torch.save({"key": self.key, **state}, file)

    def load(self) -> dict[str, Any] | None:
        """Return what was saved, None where nothing was; raises `InputError` for that of another conversion."""
        if self.file is None or not self.file.is_file():
            return None
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = first_line(error)
            raise InputError(
                f"{self.file} is not a readable checkpoint ({reason}): --overwrite starts anew"
            ) from error
        if not isinstance(state, dict) or state.get("key") != self.key:
            raise InputError(
                f"{self.file} is of a conversion with another network, other pictures or settings: repeat those, or "
                "--overwrite starts anew"
            )
        return state
