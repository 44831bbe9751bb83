"""Hashes of what decides an embedding."""

from __future__ import annotations

import hashlib
from pathlib import Path


def folder_fingerprint(folder: Path) -> str:
    """Hash the files of a model folder that decide what it computes: weights, configuration, tokenizer."""
    digest = hashlib.sha256()
    files = (f for f in folder.rglob("*") if f.suffix in (".safetensors", ".bin", ".json", ".txt", ".model"))
    for file in sorted(f for f in files if f.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def combined(*parts: str) -> str:
    """Return one hash of several parts."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
