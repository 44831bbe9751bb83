"""Image folders: split/class/*.jpg or class/*.jpg."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikeclip.data.readers.listing import EXTENSIONS, VALIDATION, Listing, read_names
from spikeclip.errors import InputError


def picture_files(folder: Path) -> list[Path]:
    """Return every picture in a folder and its subfolders, in order; hidden files and folders are passed over."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]


def picture_splits(folder: Path) -> dict[str, list[Path]]:
    """Return the picture files of each split: split/class/*.jpg, or class/*.jpg as "train"."""
    nested: dict[str, list[Path]] = {}
    flat: list[Path] = []
    for path in picture_files(folder):
        inside = path.relative_to(folder).parts
        if len(inside) == 2 and inside[0] not in ("train", "test", *VALIDATION):  # a split is not a class
            flat.append(path)
        elif len(inside) > 2:
            nested.setdefault(inside[0], []).append(path)
    return nested or ({"train": flat} if flat else {})


def list_folder(folder: Path, splits: dict[str, list[Path]], split: str) -> Listing:
    """List the pictures of a folder; classes as in names.json, or those of all splits, sorted."""
    files = splits[split]
    depth = len(files[0].relative_to(folder).parts) > 2

    def name_of(path: Path) -> str:
        return path.relative_to(folder).parts[int(depth)]

    classnames = read_names(folder) or sorted({name_of(path) for paths in splits.values() for path in paths})
    index = {name: i for i, name in enumerate(classnames)}
    if missing := sorted({name_of(path) for path in files} - index.keys()):
        raise InputError(f"{folder}: class folder {missing[0]!r} is not in names.json")
    return Listing(
        ids=[path.relative_to(folder).as_posix() for path in files],
        read=lambda indices: (files[i] for i in indices),
        labels=np.array([index[name_of(path)] for path in files], np.int64),
        classnames=classnames,
    )
