"""Data sets known by name: their entries in datasets.yaml, and the folders they are read from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from spikeclip.errors import InputError

FOLDER_VARIABLE = "SPIKECLIP_DATA"
"""Environment variable with the folder that holds data sets by their names."""


@dataclass(frozen=True)
class Known:
    """One entry of datasets.yaml, which explains the fields. splits: our name -> (the source's name, its pictures)."""

    name: str
    title: str
    hub: str
    task: Literal["classification", "captions"]
    splits: dict[str, tuple[str, int]]
    classes: int | None = None
    pixels: int | None = None
    files: str | None = None
    names: Literal["ours", "source"] = "ours"
    note: str = ""

    @property
    def folder(self) -> Path | None:
        """The folder of this name in $SPIKECLIP_DATA, or None; `InputError` where $SPIKECLIP_DATA is no folder."""
        root = os.environ.get(FOLDER_VARIABLE)
        if not root:
            return None
        if not Path(root).expanduser().is_dir():
            raise InputError(f"{FOLDER_VARIABLE} is {root!r}, which is not a folder")
        folder = Path(root).expanduser() / self.name
        return folder if folder.is_dir() else None


@cache
def known_datasets() -> dict[str, Known]:
    """Return the known data sets by name, in the order of the file."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("datasets.yaml").read_text())
    return {
        name: Known(
            **{**entry, "name": name, "splits": {k: (v[0], v[1]) for k, v in entry["splits"].items()}}
        )
        for name, entry in entries.items()
    }
