"""What a split holds before its pictures are decoded, and what all readers share."""

from __future__ import annotations

import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.errors import InputError, first_line
from spikeclip.files import text_of

Encoded = bytes | Path

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "fine_label", "labels", "cls")
CAPTION_COLUMNS = ("captions", "caption", "sentences", "text", "txt")
VALIDATION = ("validation", "val", "valid", "dev")
"""Names of one and the same split."""
CLASSNAMES_FILE = "classnames.txt"
MOST_CLASSES = 100_000
"""Labels without class names stay below this, so that no label decides how much memory is taken."""

_LONGEST = 1 << 16  # characters: more than any number of tokens that is read, and still tokenized quickly


@dataclass(frozen=True)
class Recording:
    """Events of one recording, N each: column, row, polarity 0 or 1, and microseconds since the event before."""

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    dt: np.ndarray


@dataclass(frozen=True)
class Listing:
    """One split, pictures still encoded. `read` yields the pictures or recordings at the given indices, in order.

    skipped: pictures beside them that are not read, by name, with the reason; others: files that are no pictures.
    """

    ids: list[str]
    read: Callable[[np.ndarray], Iterator[Encoded] | Iterator[Recording]]
    labels: np.ndarray | None = None
    classnames: list[str] = field(default_factory=list)
    captions: list[list[str]] | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)


def in_order(names: Iterable[str]) -> list[str]:
    """Return different class names sorted: numbers as numbers (2 before 10), before all other names."""
    return sorted(
        set(names), key=lambda name: (int(name) if re.fullmatch("[0-9]{1,18}", name) else 10**18, name)
    )


def check_file(path: Path) -> None:
    """Raise `InputError` for a folder, a pipe or a device, which may never end."""
    if not path.is_file():
        raise InputError(f"{path} is not a file")


def read_names(folder: Path) -> list[str]:
    """Return the class names in `folder`/names.json, in label order; empty where there is no such file."""
    path = folder / "names.json"
    if not path.is_file():
        return []
    names = json_of(path.read_bytes(), str(path))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: expected a list of class names in label order")
    return [plain_text(name) for name in names]


def name_lines(path: Path) -> list[str]:
    """Return the lines of a file of class names or templates, one a line; empty ones are allowed at the end only."""
    lines = text_of(path.read_bytes(), str(path)).rstrip().split("\n")
    names = [line.strip() for line in lines]
    if "" in names:
        raise InputError(
            f"{path}: line {names.index('') + 1} is empty; the class of a label is found by its line"
        )
    return names


def by_split(files: list[Path]) -> dict[str, list[Path]]:
    """Group shards such as train-00000-of-00002 by the split that their names start with."""
    splits: dict[str, list[Path]] = {}
    for path in files:
        shard = re.fullmatch(r"(.+?)(?:[-_.]?\d+(?:-of-\d+)?(?:-[0-9a-f]{16})?)?", path.stem)
        splits.setdefault(shard[1] if shard else path.stem, []).append(path)
    return splits


def check_shards(files: Sequence[Path]) -> None:
    """Raise `InputError` where shards of a split are missing, by their names or by nshards.txt beside them.

    train-00000-of-00003 says how many there are. A gap between numbers alone may be on purpose: a warning.
    """
    folder = files[0].parent
    count = folder / "nshards.txt"
    if files[0].suffix == ".tar" and count.is_file():
        expected = count.read_text(encoding="utf-8", errors="replace").strip()
        if expected != str(len(files)):
            raise InputError(
                f"{folder} holds {len(files)} shards, nshards.txt says {expected[:20]}: fetch the others"
            )
    parts = [re.search(r"(\d+)(?:-of-(\d+))?(?:-[0-9a-f]{16})?$", path.stem) for path in files]
    totals = {part[2] for part in parts if part}
    numbers = [int(part[1]) for part in parts if part]
    if totals - {None}:
        if len(totals) > 1 or len(parts) > len(numbers) or len(set(numbers)) < len(numbers):
            raise InputError(
                f"{folder}: {listed([path.name for path in files])} are not shards of one set: remove the older ones"
            )
        total = int(totals.pop())
        if len(numbers) != total or sorted(numbers) not in (list(range(total)), list(range(1, total + 1))):
            first = 0 if 0 in numbers or total not in numbers else 1
            absent = _gaps([first - 1, *numbers, first + total])
            raise InputError(
                f"{folder} holds {len(numbers)} of {total} shards such as {files[0].name}, without the numbers "
                f"{listed([str(n) for n in absent])}: fetch the others"
            )
    elif len(numbers) == len(files) and (absent := _gaps(numbers)):
        warnings.warn(
            f"{folder}: no shards with the numbers {listed([str(n) for n in absent])} between {min(numbers)} and "
            f"{max(numbers)}; the others are read",
            stacklevel=3,
        )


def names_of(labels: np.ndarray, names: list[str], source: str) -> list[str]:
    """Return `names`, or numbers where there are none; raises `InputError` where a label has no name."""
    low, high = int(labels.min(initial=0)), int(labels.max(initial=-1))
    if low < 0 or high >= (len(names) or MOST_CLASSES):
        among = f"with {len(names)} class names"
        if not names:
            among = f"and without class names they stay below {MOST_CLASSES:,}: give them in names.json"
        raise InputError(f"{source}: labels run from {labels.min()} to {high}, {among}")
    return names or [str(i) for i in range(high + 1)]


def label_of(value: Any, where: str) -> int:
    """Return a label that was read as a whole number or its digits; raises `InputError` for anything else."""
    if isinstance(value, (bytes, str)) and re.fullmatch(r"-?\d{1,18}", text := _stripped(value)):
        return int(text)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62:
        return value
    raise InputError(f"{where}: expected the number of a class, got {short(value)}")


def texts_of(value: Any, where: str) -> list[str]:
    """Return the captions that a cell holds: a list, or a text of one caption a line; raises `InputError`."""
    texts = value.splitlines() if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(
            f"{where} holds {short(value)} where captions were expected: a text or a list of texts"
        )
    return [plain_text(text) for text in texts if text.strip()]


def json_of(data: bytes, where: str) -> Any:
    """Return what JSON holds; raises `InputError` where it is damaged, not UTF-8 or nested too deeply."""
    try:
        return json.loads(text_of(data, where))
    except RecursionError:
        raise InputError(f"{where}: its JSON is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON ({first_line(error)})") from None


def plain_text(text: str) -> str:
    """Return a text without lone surrogates, which no file can hold, and what is far behind any context length."""
    text = text if len(text) <= _LONGEST else text.strip()[:_LONGEST]
    return text.encode("utf-8", "replace").decode("utf-8")


def short(value: Any, length: int = 60) -> str:
    """Return how a value is written, cut to a length that fits a message."""
    if isinstance(value, int) and abs(value) >= 10**20:  # Python writes no number of thousands of digits
        return "a huge number"
    text = repr(value[: 2 * length] if isinstance(value, (str, bytes, list)) else value)
    return text if len(text) <= length else f"{text[:length]}..."


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first of several names, with dots for the others."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _gaps(numbers: Sequence[int]) -> list[int]:
    """The first numbers that are missing between the smallest and the largest."""
    there = sorted(numbers)
    return [n for a, b in itertools.pairwise(there) for n in range(a + 1, min(b, a + 5))]


def _stripped(value: bytes | str) -> str:
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else value).strip()
