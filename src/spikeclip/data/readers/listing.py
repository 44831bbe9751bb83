"""What a split holds before its pictures are decoded, and what all readers share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.data.formats import PICTURE_ENDINGS
from spikeclip.errors import InputError

Encoded = bytes | Path

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "fine_label", "labels", "cls")
CAPTION_COLUMNS = ("captions", "caption", "sentences", "text", "txt")
VALIDATION = ("validation", "val", "valid", "dev")
"""Names of one and the same split."""
CLASSNAMES_FILE = "classnames.txt"
EXTENSIONS = PICTURE_ENDINGS


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

    skipped: what was found beside them and is not read, by name, with the reason.
    """

    ids: list[str]
    read: Callable[[np.ndarray], Iterator[Encoded] | Iterator[Recording]]
    labels: np.ndarray | None = None
    classnames: list[str] = field(default_factory=list)
    captions: list[list[str]] | None = None
    skipped: dict[str, str] = field(default_factory=dict)


def in_order(names: Iterable[str]) -> list[str]:
    """Return different class names sorted: numbers as numbers (2 before 10), before all other names."""
    return sorted(
        set(names), key=lambda name: (int(name) if re.fullmatch("[0-9]{1,18}", name) else 10**18, name)
    )


def read_names(folder: Path) -> list[str]:
    """Return the class names in `folder`/names.json, in label order; empty where there is no such file."""
    path = folder / "names.json"
    if not path.is_file():
        return []
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: expected a list of class names in label order")
    return names


def by_split(files: list[Path]) -> dict[str, list[Path]]:
    """Group shards such as train-00000-of-00002 by the split that their names start with."""
    splits: dict[str, list[Path]] = {}
    for path in files:
        shard = re.fullmatch(r"(.+?)(?:[-_.]?\d+(?:-of-\d+)?(?:-[0-9a-f]{16})?)?", path.stem)
        splits.setdefault(shard[1] if shard else path.stem, []).append(path)
    return splits


def names_of(labels: np.ndarray, names: list[str], source: str) -> list[str]:
    """Return `names`, or numbers where there are none; raises `InputError` where a label has no name."""
    if not names:
        names = [str(i) for i in range(int(labels.max(initial=-1)) + 1)]
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(names)):
        raise InputError(
            f"{source}: labels run from {labels.min()} to {labels.max()}, with {len(names)} class names"
        )
    return names


def texts_of(value: Any, where: str) -> list[str]:
    """Return the captions that a cell holds: a list, or a text of one caption a line; raises `InputError`."""
    texts = value.splitlines() if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where} holds {value!r} where captions were expected: a text or a list of texts")
    return [text for text in texts if text.strip()]
