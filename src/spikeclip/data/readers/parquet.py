"""Tables of encoded pictures: parquet files in the hub's style, and data sets of the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeclip.data.readers.listing import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    Encoded,
    Listing,
    by_split,
    in_order,
    names_of,
    read_names,
    texts_of,
)
from spikeclip.errors import InputError, first_line

if TYPE_CHECKING:
    import datasets


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """Return the parquet files of each split in `folder` or `folder`/data, shards joined."""
    return by_split(sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet")))


def list_parquet(folder: Path, files: list[Path], split: str, scratch: Path) -> Listing:
    """List the pictures of parquet files in the hub's style. `scratch` holds an Arrow copy of them."""
    import datasets
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        rows = datasets.load_dataset(
            "parquet",
            data_files={"rows": [str(path) for path in files]},
            split="rows",
            cache_dir=str(scratch),
        )
    except Exception as error:  # on damaged files pyarrow and datasets raise many kinds of errors
        cause = error.__cause__ or error
        raise InputError(
            f"{folder}: cannot read the parquet files of {split!r} ({first_line(cause)})"
        ) from error
    finally:
        if not quiet:
            enable_progress_bars()
    assert isinstance(rows, datasets.Dataset)
    return list_rows(rows, str(folder), split, read_names(folder), folder)


def count_parquet(files: list[Path]) -> int:
    """Return the number of rows of parquet files, from their footers; raises `InputError` for a damaged one."""
    import pyarrow.parquet

    try:
        return sum(pyarrow.parquet.read_metadata(path).num_rows for path in files)
    except (OSError, ValueError) as error:
        raise InputError(f"{files[0].parent}: cannot read a parquet file ({first_line(error)})") from None


def list_rows(
    rows: datasets.Dataset, source: str, split: str, names: list[str] | None = None, base: Path | None = None
) -> Listing:
    """List a `datasets.Dataset` with a picture column and labels or captions.

    names: class names where the label column has none. base: folder that relative picture paths start from.
    """
    import datasets

    image = _column(rows, IMAGE_COLUMNS)
    if image is None:
        raise InputError(f"{source}: no picture column ({' or '.join(IMAGE_COLUMNS)}) in {rows.column_names}")
    if isinstance(rows.features[image], datasets.Image):
        rows = rows.cast_column(image, datasets.Image(decode=False))

    def read(indices: np.ndarray) -> Iterator[Encoded]:
        for batch in rows.select_columns([image]).select(indices).with_format("arrow").iter(1000):
            yield from (_encoded(cell, base) for cell in _cells(batch, image))

    labels, classnames = _labels(rows, source, names or [])
    captions = _captions(rows, source)
    if labels is None and captions is None:
        raise InputError(f"{source}: neither labels nor captions in the columns {rows.column_names}")
    return Listing(_ids(rows, image, split), read, labels, classnames, captions)


def _column(rows: datasets.Dataset, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in rows.column_names), None)


def _cells(table: Any, column: str) -> list[Any]:
    return table[column].to_pylist()


def _values(rows: datasets.Dataset, column: str) -> list[Any]:
    return _cells(rows.select_columns([column]).with_format("arrow")[:], column)


def _encoded(cell: Any, base: Path | None) -> Encoded:
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if isinstance(data, bytes):
        return data
    return (base or Path()) / path if path else b""


def _ids(rows: datasets.Dataset, image: str, split: str) -> list[str]:
    plain = [f"{split}/{i}" for i in range(len(rows))]
    table: Any = rows.select_columns([image]).with_format("arrow")
    paths: list[str | None] = []
    for batch in table.iter(10_000):
        column = batch[image].combine_chunks()
        names = [field.name for field in column.type] if str(column.type).startswith("struct") else []
        paths += column.field("path").to_pylist() if "path" in names else [None] * len(column)
    ids = [path or default for path, default in zip(paths, plain, strict=True)]
    return ids if len(set(ids)) == len(ids) else plain


def _labels(rows: datasets.Dataset, source: str, names: list[str]) -> tuple[np.ndarray | None, list[str]]:
    import datasets

    column = _column(rows, LABEL_COLUMNS)
    if column is None:
        return None, []
    feature, values = rows.features[column], _values(rows, column)
    if isinstance(feature, datasets.ClassLabel):
        names = list(feature.names or names)
    if values and isinstance(values[0], str):
        names = names or in_order(map(str, values))
        index = {name: i for i, name in enumerate(names)}
        values = [index.get(value, len(names)) for value in values]
    labels = np.array([-1 if value is None else value for value in values], np.int64)
    if len(labels) and labels.max() < 0:  # how the hub marks a test split without labels
        return None, []
    return labels, names_of(labels, names, source)


def _captions(rows: datasets.Dataset, source: str) -> list[list[str]] | None:
    column = _column(rows, CAPTION_COLUMNS)
    if column is not None:
        return [texts_of(value, f"{source}: column {column!r}") for value in _values(rows, column)]
    numbered = [name for name in rows.column_names if re.fullmatch(r"caption_\d+", name)]
    if not numbered:
        return None
    return [list(texts) for texts in zip(*(_values(rows, name) for name in numbered), strict=True)]
