"""The folder of a model."""

from __future__ import annotations

from pathlib import Path

from spikeclip.errors import InputError


def model_folder(folder: Path) -> Path:
    """Return the folder of a saved model: itself, or `model` inside the folder of a run.

    Raises `InputError` for a run that has not finished.
    """
    if (folder / "config.json").is_file():
        return folder
    inside = folder / "model"
    if not inside.is_dir() and (folder / "recipe.json").is_file():
        raise InputError(f"the run in {folder} has not finished, so there is no model in it yet")
    return inside if inside.is_dir() else folder
