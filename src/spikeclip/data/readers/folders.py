"""Image folders: split/class/*.jpg or class/*.jpg."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spikeclip.data.formats import PICTURE_ENDINGS
from spikeclip.data.readers.listing import VALIDATION, Listing, in_order, read_names
from spikeclip.errors import InputError, printable


class ClassFolder(NamedTuple):
    """place: None for the files in no class folder, which are all among the others. others: what is no picture."""

    place: Path | None
    pictures: list[Path]
    others: list[Path]


_SPLITS = {"train", "test", *VALIDATION}
_HIDDEN = {"Thumbs.db", "desktop.ini", "__MACOSX"}  # of other systems, beside names that start with a dot
_TABLES = {".csv", ".tsv", ".txt", ".json", ".jsonl", ".xlsx"}


def is_picture(path: Path) -> bool:
    """Whether a file has the ending of a picture, in letters of either case."""
    return path.suffix.lower() in PICTURE_ENDINGS


def folder_files(folder: Path) -> list[Path]:
    """Return every file in a folder and its subfolders, in order; hidden files and folders are passed over.

    Links to folders are followed, and each folder is read once, so that a loop of links ends. Folders that are empty,
    may not be read or are read already by another name stand in the list themselves.
    """
    found: list[Path] = []
    seen = {_identity(folder.parent)}
    folders, links = [folder], []
    while folders or links:
        place = folders.pop() if folders else links.pop(0)  # links last: a folder keeps its own name
        try:
            if (identity := _identity(place)) in seen:
                found.append(place)
                continue
            seen.add(identity)
            entries = _visible(place)
        except OSError:  # it may not be read, is gone meanwhile, or its path is too long
            if place == folder:
                raise
            found.append(place)
            continue
        for entry in entries:
            if not os.path.isdir(entry.path):  # an entry's own raises an error for a link to itself
                found.append(Path(entry.path))
            else:
                (links if entry.is_symlink() else folders).append(Path(entry.path))
        if not entries and place != folder:
            found.append(place)
    return sorted(found)


def picture_splits(folder: Path) -> dict[str, list[ClassFolder]]:
    """Return the class folders of each split: split/class/*.jpg, or class/*.jpg as "train".

    A folder inside a class folder belongs to the class. Empty where no picture is in a class folder.
    """
    names = [
        entry.name
        for entry in _visible(folder)
        if Path(entry.path).is_dir() and os.access(entry.path, os.R_OK)
    ]
    splits = {name: _class_folders(folder / name) for name in names}
    nested = {name: classes for name, classes in splits.items() if any(each.pictures for each in classes)}
    loose = any(any(map(is_picture, each.others)) for classes in splits.values() for each in classes)
    if nested and (nested.keys() & _SPLITS or not loose):
        return nested
    flat = [
        ClassFolder(None, [], each.pictures + each.others)  # a split is not a class
        if each.place and each.place.name in _SPLITS
        else each
        for each in _class_folders(folder)
    ]
    return {"train": flat} if any(each.pictures for each in flat) else {}


def list_folder(folder: Path, splits: dict[str, list[ClassFolder]], split: str) -> Listing:
    """List the pictures of a folder; classes as in names.json, or those of all splits, in order (2 before 10).

    What is no picture in a class folder is among the others, with the reason. Raises `InputError` for a single class
    and for a class that is not in names.json.
    """
    found = in_order(_name(each) for classes in splits.values() for each in classes if each.pictures)
    classnames = read_names(folder) or found
    if len(classnames) == 1:
        raise InputError(f"{folder}: one class is no classification; {unsorted(folder)}")
    index = {name: i for i, name in enumerate(classnames)}
    if missing := in_order(
        _name(each) for each in splits[split] if each.pictures and _name(each) not in index
    ):
        raise InputError(f"{folder}: class folder {missing[0]!r} is not in names.json")
    labelled = [(path, index[_name(each)]) for each in splits[split] for path in each.pictures]
    empty = [each.place for each in splits[split] if each.place and not each.pictures]
    unread = {path: "a class folder without a picture" for path in empty}
    unread |= {path: why_not(path) for each in splits[split] for path in each.others}
    reasons = {path.relative_to(folder).as_posix(): why for path, why in unread.items()}
    return Listing(
        ids=[path.relative_to(folder).as_posix() for path, _ in labelled],
        read=lambda indices: (labelled[i][0] for i in indices),
        labels=np.array([label for _, label in labelled], np.int64),
        classnames=classnames,
        skipped={name: why for name, why in reasons.items() if is_picture(Path(name))},
        others={name: why for name, why in reasons.items() if not is_picture(Path(name))},
    )


def all_files(classes: list[ClassFolder]) -> list[Path]:
    """Return the files of class folders, pictures and others."""
    return [path for each in classes for path in each.pictures + each.others]


def unsorted(folder: Path) -> str:
    """Say what is in a folder without classes, and how it becomes one with them; empty where no picture is in it."""
    files = folder_files(folder)
    places = {path.parent for path in files if is_picture(path)}
    if not places:
        return ""
    tables = [path.relative_to(folder).as_posix() for path in files if path.suffix.lower() in _TABLES]
    beside = f" beside {printable(tables[0])}" if tables else ""
    where = printable(str(min(places))) if len(places) == 1 else f"{len(places)} folders"
    count = sum(map(is_picture, files))
    return (
        f"found {count:,} pictures in {where}{beside}: put the pictures of each class in a folder "
        "of its own (CLASS/*.jpg), or make a train.parquet with the columns image and label"
    )


def why_not(path: Path) -> str:
    """Say why a file that `folder_files` returns is no picture to be read."""
    if is_picture(path):
        return "a picture in no class folder"
    if not os.path.exists(path):
        return "a link that leads nowhere" if os.path.islink(path) else "gone, or a path that is too long"
    if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        return "a folder that may not be read"
    if path.is_dir():
        return "a link to a folder that is read already" if _visible(path) else "an empty folder"
    return "not a picture by its ending"


def _class_folders(start: Path) -> list[ClassFolder]:
    """The class folders in a folder, in order, and first what is in none."""
    places: dict[Path | None, list[Path]] = {None: []}
    depth = len(start.parts)
    for path in folder_files(start):
        in_class = len(path.parts) > depth + 1
        places.setdefault(start / path.parts[depth] if in_class else None, []).append(path)
    return [
        ClassFolder(
            place,
            [path for path in files if place and is_picture(path)],
            [path for path in files if not (place and is_picture(path))],
        )
        for place, files in places.items()
    ]


def _name(folder: ClassFolder) -> str:
    assert folder.place is not None, "files in no class folder have no class"
    return folder.place.name


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as scan:
        shown = [entry for entry in scan if not entry.name.startswith(".") and entry.name not in _HIDDEN]
    return sorted(shown, key=lambda entry: entry.name)


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino
