"""Results as JSON that every reader accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.errors import InputError, first_line
from spikeclip.files import replacing


def json_text(value: Any) -> str:
    """Return nested plain values as valid JSON, numbers that are not finite as null."""
    return json.dumps(_plain(value), indent=2, allow_nan=False, ensure_ascii=False)


def write_record(record: Mapping[str, Any], path: str | Path) -> None:
    """Write a result as JSON, all of it or nothing; makes the folder.

    JSON has no NaN: a number that is not finite, such as acc5 below five classes, is written as null.
    Raises `InputError` where `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(
            f"{path} is a folder; a result is written to a file, such as {path / 'results.json'}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json_text(record) + "\n").encode())


def read_record(path: str | Path) -> dict[str, Any]:
    """Read what `write_record` wrote. Raises `InputError` for a file that is missing or no record."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: the record cannot be read ({first_line(error)})") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} holds no record of a result")
    return record


def read_json(file: Path, default: Any = None) -> Any:
    """Return what a JSON file holds, or `default` where that is given and there is no such file."""
    if not file.is_file() and default is not None:
        return default
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {first_line(error)}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
