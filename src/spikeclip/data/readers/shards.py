"""Webdataset shards: tar archives in which files of equal name are one sample (7.jpg, 7.cls, 7.txt, 7.json)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.data.formats import PICTURE_ENDINGS
from spikeclip.data.readers.listing import (
    CAPTION_COLUMNS,
    CLASSNAMES_FILE,
    LABEL_COLUMNS,
    Encoded,
    Listing,
    by_split,
    check_file,
    json_of,
    label_of,
    listed,
    name_lines,
    names_of,
    read_names,
    texts_of,
)
from spikeclip.data.readers.tar import members
from spikeclip.errors import InputError
from spikeclip.files import text_of

_LARGEST, _LONGEST = 1 << 28, 1 << 20  # bytes of a picture that is read, and of a text
_COMPRESSED = ("*.tar.gz", "*.tgz", "*.tar.bz2", "*.tar.xz", "*.tar.zst")


@dataclass(slots=True)
class _Sample:
    """place: first byte and length of its picture. values: what its other files hold, by extension. files: names of
    its files by extension, but "picture" for any format."""

    key: str
    shard: int
    place: tuple[int, int] | None = None
    values: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def shard_splits(folder: Path) -> dict[str, list[Path]]:
    """Return the tar files of each split, in the order of their numbers: split/0.tar or split-000000.tar.

    Raises `InputError` for compressed ones, in which no picture can be found by its place.
    """
    for pattern in _COMPRESSED:
        if found := [*folder.glob(pattern), *folder.glob(f"*/{pattern}")]:
            raise InputError(
                f"{folder}: shards are read uncompressed: unpack {listed(sorted(f.name for f in found))} to .tar"
            )
    nested: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*/*.tar"), key=_number):
        nested.setdefault(path.parent.name, []).append(path)
    return nested or by_split(sorted(folder.glob("*.tar"), key=_number))


def list_shards(folder: Path, files: list[Path]) -> Listing:
    """List the pictures of shards, which stay in their archives; only the small files are read.

    Labels are .cls (a number) or .json {"label": ...}; captions .txt (one a line) or .json {"caption": ...}. Class
    names are in `folder`/classnames.txt, one a line, or names.json. A sample whose picture is missing is listed as
    one that cannot be read. Raises `InputError` for a damaged or missing shard, and samples without label or
    caption where others have one.
    """
    samples = [sample for shard, path in enumerate(files) for sample in _index(path, shard)]
    about = [_about(sample, folder) for sample in samples]
    labels = _column([label for label, _ in about], samples, folder, "label")
    captions = _column([texts for _, texts in about], samples, folder, "caption")
    if labels is None and captions is None:
        raise InputError(f"{folder}: the samples have neither labels (.cls) nor captions (.txt)")

    def read(indices: np.ndarray) -> Iterator[Encoded]:
        with ExitStack() as stack:
            opened = {}
            for i in indices.tolist():
                shard, (start, size) = samples[i].shard, samples[i].place or (0, 0)
                if shard not in opened:
                    opened[shard] = stack.enter_context(files[shard].open("rb"))
                opened[shard].seek(start)
                yield opened[shard].read(size)

    numbers = None if labels is None else np.array(labels, np.int64)
    return Listing(
        ids=_ids(samples, files),
        read=read,
        labels=numbers,
        classnames=[] if numbers is None else names_of(numbers, _names(folder), str(folder)),
        captions=captions,
    )


def _index(path: Path, shard: int) -> list[_Sample]:
    """The samples of one archive, in the order of their first files."""
    check_file(path)
    samples: dict[str, _Sample] = {}
    with path.open("rb") as file:
        for name, start, size in members(path):
            stem, dot, extension = Path(name).name.partition(".")
            extension = extension.lower()
            picture = f".{extension}" in PICTURE_ENDINGS
            if not stem or not dot:
                continue
            key = (Path(name).parent / stem).as_posix()
            sample = samples.setdefault(key, _Sample(key, shard))
            kind = "picture" if picture else extension
            if kind in sample.files:
                raise InputError(f"{path}: sample {key!r} has two files {sample.files[kind]!r} and {name!r}")
            if start is None:  # a link or a device: the sample is one without it
                continue
            sample.files[kind] = name
            if picture and size <= _LARGEST:
                sample.place = (start, size)
            elif extension in ("cls", "txt", "json"):
                if size > _LONGEST:
                    raise InputError(
                        f"{path}: {name} has {size:,} bytes, and labels and captions at most {_LONGEST:,}"
                    )
                file.seek(start)
                sample.values[extension] = file.read(size)
    return list(samples.values())


def _about(sample: _Sample, folder: Path) -> tuple[int | None, list[str] | None]:
    """The label and the captions of a sample, None where it has none."""
    where = f"{folder}: {sample.key}"
    more = json_of(sample.values["json"], f"{where}.json") if "json" in sample.values else {}
    if not isinstance(more, dict):
        raise InputError(f'{where}.json: expected a table such as {{"label": 3}}')
    label: Any = sample.values.get("cls", _first(more, LABEL_COLUMNS))
    text = sample.values.get("txt")
    captions = _first(more, CAPTION_COLUMNS) if text is None else text_of(text, f"{where}.txt")
    return (
        None if label is None else label_of(label, where),
        None if captions is None else texts_of(captions, where),
    )


def _first(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _column(values: list[Any], samples: list[_Sample], folder: Path, what: str) -> list[Any] | None:
    missing = [sample.key for value, sample in zip(values, samples, strict=True) if value is None]
    if len(missing) == len(values):
        return None
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(values)} samples have no {what}, such as {missing[0]!r}"
        )
    return values


def _ids(samples: list[_Sample], files: list[Path]) -> list[str]:
    keys = [sample.key for sample in samples]
    return keys if len(set(keys)) == len(keys) else [f"{files[s.shard].stem}/{s.key}" for s in samples]


def _names(folder: Path) -> list[str]:
    path = folder / CLASSNAMES_FILE
    return name_lines(path) if path.is_file() else read_names(folder)


def _number(path: Path) -> tuple[str, int, str]:
    """Sort 10.tar after 9.tar, within each folder and each first part of a name."""
    number = re.search(r"\d+$", path.stem)
    return str(path.parent), int(number[0]) if number else -1, path.stem
