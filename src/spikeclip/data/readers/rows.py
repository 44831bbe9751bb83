"""From the rows of a table to a `Listing`: which columns hold pictures, labels and captions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.data.readers.listing import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    Encoded,
    Listing,
    in_order,
    label_of,
    listed,
    names_of,
    plain_text,
    short,
    texts_of,
)
from spikeclip.errors import InputError


@dataclass(frozen=True)
class Rows:
    """A table that is read column by column.

    columns: their names, and column.path of a struct with paths. classnames: of the columns that bring some.
    cells(column, rows): what a column holds in `rows` (K,), ascending, or in all; of pictures bytes, or a dictionary
    of bytes and path.
    """

    count: int
    columns: Sequence[str]
    classnames: dict[str, list[str]]
    cells: Callable[[str, np.ndarray | None], Iterator[Any]]


def list_rows(
    rows: Rows, source: str, split: str, folders: Sequence[Path], names: Sequence[str] = ()
) -> Listing:
    """List a table with a picture column and labels or captions.

    folders: where pictures that a row names by path may lie; relative paths start from the first. names: class names
    where the label column has none. Raises `InputError` for columns that are missing and cells that do not fit.
    """
    image = _column(rows, IMAGE_COLUMNS)
    if image is None:
        raise InputError(
            f"{source}: no picture column ({' or '.join(IMAGE_COLUMNS)}) in {listed(rows.columns, 20)}"
        )

    def read(indices: np.ndarray) -> Iterator[Encoded]:
        for i, cell in zip(indices.tolist(), rows.cells(image, indices), strict=True):
            yield _encoded(cell, folders, f"{source}: row {i} of {split!r}")

    labels, classnames = _labels(rows, source, split, list(names))
    captions = _captions(rows, source, split)
    if labels is None and captions is None:
        raise InputError(f"{source}: neither labels nor captions in the columns {listed(rows.columns, 20)}")
    return Listing(_ids(rows, image, split), read, labels, classnames, captions)


def _column(rows: Rows, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in rows.columns), None)


def _encoded(cell: Any, folders: Sequence[Path], where: str) -> Encoded:
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if isinstance(data, bytes):
        return data
    if not isinstance(path, str) or not path:
        return b""
    # A link inside a folder is followed: whoever owns the folder made it, a table cannot.
    place = Path(os.path.abspath(folders[0] / path))
    if not any(place.is_relative_to(os.path.abspath(folder)) for folder in folders):
        raise InputError(
            f"{where} names the picture {short(path)}, which is outside of the data: {folders[0]}"
        )
    return place


def _ids(rows: Rows, image: str, split: str) -> list[str]:
    plain = [f"{split}/{i}" for i in range(rows.count)]
    if f"{image}.path" not in rows.columns:
        return plain
    paths = rows.cells(f"{image}.path", None)
    ids = [plain_text(path) if path else default for path, default in zip(paths, plain, strict=True)]
    return ids if len(set(ids)) == len(ids) else plain


def _labels(rows: Rows, source: str, split: str, names: list[str]) -> tuple[np.ndarray | None, list[str]]:
    column = _column(rows, LABEL_COLUMNS)
    if column is None:
        return None, []
    names = rows.classnames.get(column) or names
    values = list(rows.cells(column, None))
    missing = [i for i, value in enumerate(values) if value is None or value == -1 or value != value]
    if len(missing) == len(values):  # how the hub marks a test split without labels
        return None, []
    if missing:
        rows_named = listed([f"{split}/{i}" for i in missing])
        raise InputError(f"{source}: {len(missing)} of {len(values)} rows have no label: {rows_named}")
    if all(isinstance(value, str) for value in values):
        values = [plain_text(value) for value in values]
        names = names or in_order(values)
        index = {name: i for i, name in enumerate(names)}
        if strange := sorted(set(values) - index.keys()):
            raise InputError(
                f"{source}: label {short(strange[0])} of {split!r} is none of the {len(names)} class names"
            )
        return np.array([index[value] for value in values], np.int64), names
    labels = np.array([label_of(value, f"{source}: {split}/{i}") for i, value in enumerate(values)], np.int64)
    return labels, names_of(labels, names, f"{source} {split}")


def _captions(rows: Rows, source: str, split: str) -> list[list[str]] | None:
    column = _column(rows, CAPTION_COLUMNS)
    if column is not None:
        return _texts(rows.cells(column, None), f"{source}: column {column!r} of {split}")
    numbered = [name for name in rows.columns if re.fullmatch(r"caption_\d+", name)]
    if not numbered:
        return None
    columns = [_texts(rows.cells(name, None), f"{source}: column {name!r} of {split}") for name in numbered]
    return [[text for texts in group for text in texts] for group in zip(*columns, strict=True)]


def _texts(cells: Iterable[Any], where: str) -> list[list[str]]:
    return [texts_of(value, f"{where}/{i}") for i, value in enumerate(cells)]
