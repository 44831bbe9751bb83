"""Webdataset shards: tar archives in which files of equal name are one sample (7.jpg, 7.cls, 7.txt, 7.json)."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.data.readers.listing import (
    CAPTION_COLUMNS,
    CLASSNAMES_FILE,
    EXTENSIONS,
    LABEL_COLUMNS,
    Encoded,
    Listing,
    by_split,
    names_of,
    read_names,
    texts_of,
)
from spikeclip.errors import InputError


@dataclass(slots=True)
class _Sample:
    """place: first byte and length of its picture. values: what its other files hold, by extension."""

    key: str
    shard: int
    place: tuple[int, int] | None = None
    values: dict[str, bytes] = field(default_factory=dict)


def shard_splits(folder: Path) -> dict[str, list[Path]]:
    """Return the tar files of each split, in the order of their numbers: split/0.tar or split-000000.tar."""
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
    _check_count(files)
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
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                stem, dot, extension = Path(member.name).name.partition(".")
                if not member.isfile() or not stem or not dot:
                    continue
                key = (Path(member.name).parent / stem).as_posix()
                sample = samples.setdefault(key, _Sample(key, shard))
                if f".{extension.lower()}" in EXTENSIONS:
                    sample.place = (member.offset_data, member.size)
                elif extension in ("cls", "txt", "json"):
                    file = archive.extractfile(member)
                    assert file is not None
                    sample.values[extension] = file.read()
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{path}: not a whole tar archive ({error}): fetch it again") from None
    return list(samples.values())


def _about(sample: _Sample, folder: Path) -> tuple[int | None, list[str] | None]:
    """The label and the captions of a sample, None where it has none."""
    where = f"{folder}: {sample.key}"
    more: dict[str, Any] = {}
    if "json" in sample.values:
        try:
            more = json.loads(sample.values["json"])
        except ValueError as error:
            raise InputError(f"{where}.json: not valid JSON ({error})") from None
        if not isinstance(more, dict):
            raise InputError(f'{where}.json: expected a table such as {{"label": 3}}')
    label: Any = sample.values.get("cls")
    if label is None:
        label = next((more[name] for name in LABEL_COLUMNS if name in more), None)
    if label is not None:
        try:
            label = int(label)
        except ValueError:
            raise InputError(f"{where}: expected the number of a class, got {label!r}") from None
    texts: Any = sample.values.get("txt")
    if texts is None:
        texts = next((more[name] for name in CAPTION_COLUMNS if name in more), None)
    else:
        texts = texts.decode("utf-8", "replace")
    return label, None if texts is None else texts_of(texts, where)


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
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else read_names(folder)


def _check_count(files: list[Path]) -> None:
    """Raise `InputError` where nshards.txt, if it is beside the shards, gives another number of them."""
    path = files[0].with_name("nshards.txt")
    expected = path.read_text().strip() if path.is_file() else str(len(files))
    if expected != str(len(files)):
        raise InputError(
            f"{path.parent} holds {len(files)} shards, nshards.txt says {expected}: fetch the others"
        )


def _number(path: Path) -> tuple[str, int, str]:
    """Sort 10.tar after 9.tar, within each folder and each first part of a name."""
    number = re.search(r"\d+$", path.stem)
    return str(path.parent), int(number[0]) if number else -1, path.stem
