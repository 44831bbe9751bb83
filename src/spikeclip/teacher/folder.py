"""A model folder: on this machine or from the Hugging Face hub."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from spikeclip.errors import InputError, first_line


def local_folder(source: str) -> Path:
    """Return the folder itself, or the hub's snapshot of a name, downloaded when it is not in its cache."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", "modules.json")):
            raise InputError(f"{source} is not a model: expected config.json in the folder")
        return folder
    if folder.exists():
        raise InputError(f"{source} is a file; a teacher is a model folder, a hub name or an .npz table")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or source.startswith("."):
        raise InputError(
            f"{source}: no such folder (and not a name on the Hugging Face hub); "
            f"`spikeclip teacher train DATA --out {source}` trains a small teacher there"
        )
    from huggingface_hub import snapshot_download

    texts = ["*.json", "*.txt", "*.model"]
    try:
        folder = Path(snapshot_download(source, allow_patterns=[*texts, "model*.safetensors"]))
        if not list(
            folder.glob("*.safetensors")
        ):  # older uploads; transformers reads it with weights_only=True
            folder = Path(snapshot_download(source, allow_patterns=[*texts, "pytorch_model*.bin"]))
    except Exception as error:  # no network, no such name, no permission: the hub has many exceptions
        raise InputError(
            f"{source}: no such folder, and the Hugging Face hub gave no model of this name "
            f"({first_line(error)}). Check the path, or download the model and give its folder"
        ) from error
    return folder


def folder_fingerprint(folder: Path) -> str:
    """Hash the files of a model folder that decide what it computes: weights, configuration, tokenizer."""
    digest = hashlib.sha256()
    files = (f for f in folder.rglob("*") if f.suffix in (".safetensors", ".bin", ".json", ".txt", ".model"))
    for file in sorted(f for f in files if f.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
