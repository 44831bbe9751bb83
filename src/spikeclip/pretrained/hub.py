"""Models of the Hugging Face hub: asked for once, and read from an earlier download where it cannot be reached."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikeclip.errors import InputError, first_line, missing_extra
from spikeclip.hub import SECONDS, hub_answers

_FILES = ["*.json", "*.txt", "*.model", "model*.safetensors", "graph/*"]
_OLDER = ["*.json", "*.txt", "*.model", "pytorch_model*.bin"]
"""Uploads from before safetensors; transformers reads them with weights_only=True."""


def download(name: str, options: Mapping[str, Any]) -> Path:
    """Return the folder of a model of the hub, downloaded where it is not in the hub's cache.

    options: those of `huggingface_hub.snapshot_download`. Raises `InputError` where the hub has no such model, does
    not give it, or cannot be reached and nothing was downloaded before.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise missing_extra("huggingface_hub", "train") from error
    asked = {key: options[key] for key in ("revision", "token") if key in options}
    offline = not options.get("local_files_only") and not hub_answers(
        lambda hub: hub.model_info(name, timeout=SECONDS, **asked),
        f"{name}: no such folder, and the Hugging Face hub",
        "model",
    )
    wanted = {**options, "local_files_only": True} if offline else options
    try:
        folder = Path(snapshot_download(name, allow_patterns=_FILES, **wanted))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=_OLDER, **wanted))
    except Exception as error:  # not downloaded before, no permission, no room: the hub has many exceptions
        problem = f"gave no model of this name ({type(error).__name__}: {first_line(error)})"
        if wanted.get("local_files_only"):
            problem = "is not reached, and no model of this name was downloaded before"
        raise InputError(
            f"{name}: no such folder, and the Hugging Face hub {problem}. Check the path, or download the model and "
            "give its folder"
        ) from error
    return folder
