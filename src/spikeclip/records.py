"""Results as JSON that every reader accepts."""

from __future__ import annotations

import json
import math
import reprlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.errors import InputError, first_line
from spikeclip.files import replacing

_LARGEST = 1 << 24
"""Bytes of JSON that describe a model; parsed, they take twenty times as much."""


def json_text(value: Any) -> str:
    """Return nested plain values as valid JSON, numbers that are not finite as null.

    Bytes of file names that are no UTF-8, which Python reads as halves of characters, are written as escapes.
    """
    text = json.dumps(_plain(value), indent=2, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


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


def read_rows(file: Path, fields: Mapping[str, type]) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of a log, a JSON object a line with values of these types, and how many lines are no such rows.

    A last line that a kill cut short is left out and not counted; where there is no file there are no rows.
    """
    rows, damaged = [], 0
    text = file.read_bytes().decode(errors="replace") if file.is_file() else ""
    for line in text.splitlines(keepends=True):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and all(isinstance(row.get(name), kind) for name, kind in fields.items()):
            rows.append(row)
        else:
            damaged += line.endswith("\n")
    return rows, damaged


def check_replaced(path: Path, now: str, about: Callable[[Mapping[str, Any]], str]) -> None:
    """Warn where a file holds the result of something else than `now`, in words, which the new one will replace.

    about: what a result is of, in the same words. Raises `InputError` for a file that holds no such result.
    """
    if not path.is_file():
        return
    try:
        before = about(read_record(path))
    except (InputError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} exists and is no result of this command: --out names another place"
        ) from error
    if before != now:
        warnings.warn(f"{path} holds the result of {before}; that of {now} will replace it", stacklevel=2)


def read_json(file: Path, default: Any = None) -> Any:
    """Return what a JSON file that describes a model holds, or `default` where that is given and there is none.

    Raises `InputError` for a file that cannot be read, is no JSON, is larger than any description, or holds something
    of another type than `default`.
    """
    if not file.is_file() and default is not None:
        return default
    try:
        if file.stat().st_size > _LARGEST:
            raise InputError(f"{file} is larger than {_LARGEST >> 20} MB: it describes no model")
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {first_line(error)}") from error
    except RecursionError as error:
        raise InputError(f"{file} is not valid JSON: it is nested too deeply") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} is not valid JSON: {first_line(error)}") from error
    if default is not None and not isinstance(value, type(default)):
        expected = "a list" if isinstance(default, list) else "a table"
        raise InputError(f"{file}: expected {expected}, got {reprlib.repr(value)}")
    return value


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
