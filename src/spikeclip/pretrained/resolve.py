"""From what a person typed to the folder of a model: a run, a folder, a shipped name or one on the Hugging Face hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spikeclip.config import PRESETS
from spikeclip.errors import InputError, nearest
from spikeclip.files import folders_beside
from spikeclip.hub import is_hub_name
from spikeclip.pretrained.hub import download
from spikeclip.pretrained.shipped import shipped, shipped_folder
from spikeclip.records import read_json

GRAPHS = "graph/model.json"
"""Marks a model whose graphs were written; a device needs nothing else of it but the tokenizer."""
_MODEL_FILES = ("config.json", "modules.json", GRAPHS)
"""Each marks the folder of a model."""


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

    source: a folder with a model, the folder of a run, which stands for the model in it, a name of `list_pretrained`,
    or a name on the Hugging Face hub, "owner/model". options: those of `huggingface_hub.snapshot_download`, such as
    `revision` and `local_files_only`. Raises `InputError` where there is no model, and for a run that has not finished.

    What lies in a folder that exists, has no slash, or is no name of the hub is never asked for there.
    """
    name = str(source)
    if name != name.strip() and not os.path.lexists(os.path.expanduser(name)):
        name = name.strip()  # as it comes from a copied line
    folder = Path(name).expanduser()
    if os.path.isdir(folder):
        return _local(folder, name)
    if os.path.lexists(folder):
        raise InputError(
            f"{name!r} is a file; a model is a folder or a name on the hub (an .npz table is a teacher)"
        )
    if name in shipped():
        return Found(shipped_folder(name), "spikeclip")
    if not is_hub_name(name) or name.startswith("runs/"):
        raise _missing(name, folder)
    downloaded = download(name, options)
    return Found(downloaded, _kind(downloaded))


def _missing(name: str, folder: Path) -> InputError:
    """What is wrong with a model that is neither a folder nor, by its form or its place, a name on the hub."""
    if name in PRESETS:
        return InputError(
            f"{name!r} is a preset, a network that has yet to be trained (`spikeclip train RECIPE model.name={name}`); "
            f"a model is {', '.join(shipped())}, the folder of a run, a saved model, or owner/name on the Hugging Face "
            "hub"
        )
    if near := nearest(name.lower().removeprefix("./"), list(shipped())):
        return InputError(f"no such model: {name!r}; did you mean {near!r}, which comes with the package?")
    names = folders_beside(folder) or folders_beside(Path(folder.name))
    if "/" not in name:
        names += folders_beside(Path("runs", name))
    near = nearest(str(folder), names) or next(
        (path for path in names if Path(path).name == folder.name), None
    )
    hint = f"did you mean {near!r}?" if near else "a name on the Hugging Face hub looks like owner/model"
    return InputError(f"no such folder: {name!r}; {hint}")


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
        values = read_json(config) if config.is_file() else None
    except InputError:  # the loader of the model reports what is wrong
        return "teacher"
    ours = values.get("model_type") == "spikeclip" if isinstance(values, dict) else False
    return "spikeclip" if ours or (values is None and not (folder / "modules.json").is_file()) else "teacher"
