"""From what a person typed to the folder of a model: a run, a folder, or a name on the Hugging Face hub."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spikeclip.errors import InputError, first_line, missing_extra

GRAPHS = "graph/model.json"
"""Marks a model whose graphs were written; a device needs nothing else of it but the tokenizer."""
_MODEL_FILES = ("config.json", "modules.json", GRAPHS)
"""Each marks the folder of a model."""
_DOWNLOADED = ["*.json", "*.txt", "*.model", "model*.safetensors", "graph/*"]
_OLDER = ["*.json", "*.txt", "*.model", "pytorch_model*.bin"]
"""Uploads from before safetensors; transformers reads them with weights_only=True."""


@dataclass(frozen=True)
class Found:
    """Where a model lies."""

    folder: Path
    """Holds the model's files."""
    kind: Literal["spikeclip", "teacher"]
    """A spiking network of ours, or any other model."""
    run: Path | None = None
    """Folder of the run that left the model, where the run was named."""


def resolve(source: str | Path, **options: Any) -> Found:
    """Find the model that `source` names.

    source: a folder with a model, the folder of a run, which stands for the model in it, or a name on the Hugging Face
    hub, "owner/model". A folder that exists is never looked up on the hub. options: those of
    `huggingface_hub.snapshot_download`, such as `revision` and `local_files_only`. Raises `InputError` where there is
    no model, and for a run that has not finished.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _local(folder, str(source))
    if folder.exists():
        raise InputError(
            f"{source} is a file; a model is a folder or a name on the hub (an .npz table is a teacher)"
        )
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(source)):
        raise InputError(
            f"no such folder: {source} (a name on the Hugging Face hub looks like 'owner/model')"
        )
    downloaded = _download(str(source), options)
    return Found(downloaded, _kind(downloaded))


def has_graphs(folder: Path) -> bool:
    """Whether the folder of a model holds its graphs."""
    return (folder / GRAPHS).is_file()


def _local(folder: Path, source: str) -> Found:
    if _is_model(folder):
        return Found(folder, _kind(folder))
    inside = folder / "model"
    if inside.is_dir() and _is_model(inside):
        return Found(inside, _kind(inside), folder)
    if (folder / "recipe.json").is_file():
        raise InputError(f"the run in {folder} has not finished, so there is no model in it yet")
    raise InputError(f"{source} is not a model: expected config.json in the folder")


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _MODEL_FILES)


def _kind(folder: Path) -> Literal["spikeclip", "teacher"]:
    config = folder / "config.json"
    try:
        values = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else None
    except (OSError, ValueError):  # the loader of the model reports what is wrong
        return "teacher"
    ours = values.get("model_type") == "spikeclip" if isinstance(values, dict) else False
    return "spikeclip" if ours or (values is None and not (folder / "modules.json").is_file()) else "teacher"


def _download(name: str, options: dict[str, Any]) -> Path:
    """Return the hub's snapshot of a model, downloaded where it is not in its cache."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise missing_extra("huggingface_hub", "train") from error
    try:
        folder = Path(snapshot_download(name, allow_patterns=_DOWNLOADED, **options))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=_OLDER, **options))
    except Exception as error:  # no network, no such name, no permission: the hub has many exceptions
        raise InputError(
            f"{name}: no such folder, and the Hugging Face hub gave no model of this name "
            f"({type(error).__name__}: {first_line(error)}). Check the path, or download the model and give its folder"
        ) from error
    return folder
