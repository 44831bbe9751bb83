"""Files that are whole or not there, and folders that are free to be written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from spikeclip.errors import InputError


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not empty; raises `InputError` where there is no such file."""
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"no such file of texts: {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: its text is not UTF-8; save it again with this encoding") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def check_free(out: Path, kind: str, holds_one: bool) -> None:
    """Raise `InputError` where `out` is a file, or a folder of something that is not a `kind` to be replaced."""
    if not holds_one and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise InputError(f"{out} is not empty and not a {kind}: choose another --out")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that takes the place of `path` once it is written and synced; a failure removes it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
