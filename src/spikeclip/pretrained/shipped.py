"""The models that come with the package: int8 graphs, a configuration and a tokenizer each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from spikeclip.errors import InputError
from spikeclip.files import file_hash

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Shipped:
    """A model of the registry `shipped.yaml`, which says more of it."""

    name: str
    files: dict[str, str]
    """Hash of every file of its folder, by its path there."""
    licence: str
    sources: list[str]
    """What it was made of, with their licences."""
    training: str
    """The pictures and texts that it was fitted to."""
    metrics: dict[str, float]
    """Accuracies as fractions, by what was measured."""
    made_by: str
    """The command that makes it again."""

    @property
    def folder(self) -> Path:
        return HERE / "weights" / self.name


@cache
def shipped() -> dict[str, Shipped]:
    """Return the models of the registry, by name."""
    values: dict[str, Any] = yaml.safe_load((HERE / "shipped.yaml").read_text()) or {}
    return {name: Shipped(name, **known) for name, known in values.items()}


def list_pretrained() -> list[str]:
    """Return the names of the models that come with the package; each stands wherever MODEL does."""
    return list(shipped())


@cache
def shipped_folder(name: str) -> Path:
    """Return the folder of a model of the registry; raises `InputError` where its files are other than there."""
    model = shipped()[name]
    for path, expected in model.files.items():
        file = model.folder / path
        if not file.is_file():
            raise InputError(f"{name} lacks {file}: install spikeclip again")
        if file_hash(file) != expected:
            raise InputError(f"{file} was changed, so it is not {name} any more: install spikeclip again")
    return model.folder
