"""Models of the Hugging Face hub: asked for once, and read from an earlier download where it cannot be reached."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikeclip.errors import InputError, first_line, missing_extra

_SECONDS = 10
"""How long the hub may take to say whether it has a model."""
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
    # Without this question the client would try again for half a minute, and print every try.
    offline = not options.get("local_files_only") and not _answers(name, options)
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


def _answers(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the hub has a model; False where it cannot be reached. Raises `InputError` where it has none."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    asked = {key: options[key] for key in ("revision", "token") if key in options}
    try:
        HfApi().model_info(name, timeout=_SECONDS, **asked)
    except RepositoryNotFoundError:
        raise InputError(
            f"{name}: no such folder, and the Hugging Face hub has no model of this name"
        ) from None
    except HfHubHTTPError as error:
        raise InputError(f"{name}: the Hugging Face hub refused it ({first_line(error)})") from error
    except Exception:  # no network, whatever the reason
        return False
    return True
