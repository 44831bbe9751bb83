"""The pictures and labels that a user names, checked before anything heavy is loaded; needs no PyTorch."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.data.decode import decode
from spikeclip.data.readers.listing import EXTENSIONS
from spikeclip.errors import InputError


def find_pictures(names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the picture files that names stand for, each once, and the names that stand for none.

    A name is a file, a folder (every picture in it and in its subfolders, in order) or a pattern such as
    "photos/*.jpg".
    """
    found: dict[Path, None] = {}
    missing = []
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            files = sorted(f for f in path.rglob("*") if f.suffix.lower() in EXTENSIONS and f.is_file())
        elif path.exists():
            files = [path]
        else:
            files = [Path(f) for f in sorted(glob.glob(str(path), recursive=True)) if Path(f).is_file()]
        if not files:
            missing.append(name)
        found.update(dict.fromkeys(files))
    return list(found), missing


def rank_files(
    files: Sequence[Path], image_size: int, rank: Callable[[np.ndarray], list[Any]], batch_size: int = 64
) -> Iterator[tuple[Path, Any]]:
    """Yield each file with what `rank` says of its pixels, None for a file that is not a readable picture.

    rank: pictures (N, image_size, image_size, 3) uint8 -> N answers.
    """
    for start in range(0, len(files), batch_size):
        batch = files[start : start + batch_size]
        images = [decode(file, image_size) for file in batch]
        readable = [image for image in images if image is not None]
        answers = iter(rank(np.stack(readable)) if readable else [])
        for file, image in zip(batch, images, strict=True):
            yield file, None if image is None else next(answers)


def check_labels(labels: Sequence[str]) -> None:
    """Raise `InputError` for labels that are missing, empty or given twice."""
    if not labels:
        raise InputError("no labels to choose from: give at least two, such as 'cat,dog'")
    if any(not label.strip() for label in labels):
        raise InputError(f"an empty label in {list(labels)}: remove the comma too many, or name the label")
    seen = [label.strip().lower() for label in labels]
    twice = next((label for i, label in enumerate(labels) if seen[i] in seen[:i]), None)
    if twice is not None:
        raise InputError(f"label {twice.strip()!r} is given twice; every label must differ")
