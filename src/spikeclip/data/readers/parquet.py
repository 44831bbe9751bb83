"""Parquet files in the hub's style: a column of pictures, and labels or captions beside it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeclip.data.readers.listing import Listing, by_split, check_file, plain_text, read_names
from spikeclip.data.readers.rows import Rows, list_rows
from spikeclip.errors import InputError, first_line, missing_extra

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_BATCH = 1 << 26  # bytes of the rows that are read at a time
_ROWS = 1_000_000  # that any file may have; a larger one a row for each byte
_LEAST, _TIMES = 1 << 22, 100  # bytes in memory for a file of any size, and for each byte of it


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """Return the parquet files of each split in `folder` or `folder`/data, shards joined."""
    files, inside = sorted(folder.glob("*.parquet")), sorted(folder.glob("data/*.parquet"))
    if files and inside:
        warnings.warn(
            f"{folder}: the {len(inside)} parquet files in its folder data are not read", stacklevel=2
        )
    return by_split(files or inside)


def list_parquet(folder: Path, files: list[Path], split: str) -> Listing:
    """List the pictures of parquet files, which stay in them; only the other columns are read.

    Raises `InputError` for a damaged file, for files of one split that differ in their columns or class names, and
    for what takes far more memory than its file.
    """
    opened = [_open(path) for path in files]
    columns, classnames = _schema(opened[0], files[0])
    for file, path in zip(opened[1:], files[1:], strict=True):
        others = _schema(file, path)
        if others != (columns, classnames):
            raise InputError(f"{folder}: {path.name} and {files[0].name} differ in columns or class names")

    def cells(column: str, rows: np.ndarray | None) -> Iterator[Any]:
        first = 0
        for file, path in zip(opened, files, strict=True):
            count = file.metadata.num_rows
            wanted = None if rows is None else rows[(rows >= first) & (rows < first + count)] - first
            try:
                yield from _cells(file, path, column, wanted)
            except InputError:
                raise
            except Exception as error:  # on damaged files pyarrow raises many kinds of errors
                raise _unreadable(path, error) from error
            first += count

    count = sum(file.metadata.num_rows for file in opened)
    return list_rows(
        Rows(count, columns, classnames, cells), str(folder), split, [folder], read_names(folder)
    )


def count_parquet(files: list[Path]) -> int:
    """Return the number of rows of parquet files, from their footers; raises `InputError` for a damaged one."""
    return sum(_open(path).metadata.num_rows for path in files)


def _open(path: Path) -> ParquetFile:
    try:
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "train") from None
    check_file(path)
    try:
        file = pyarrow.parquet.ParquetFile(path, memory_map=True)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        rows = [group.num_rows for group in groups]
    except Exception as error:
        raise _unreadable(path, error) from error
    if min(rows, default=0) < 0 or sum(rows) != file.metadata.num_rows:
        raise _unreadable(path, "its row counts do not add up")
    if sum(rows) > max(_ROWS, path.stat().st_size):
        raise _unreadable(path, f"{sum(rows):,} rows in {path.stat().st_size:,} bytes")
    return file


def _schema(file: ParquetFile, path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The columns, and the class names of label columns as `datasets` writes them beside the schema."""
    try:
        schema = file.schema_arrow
        structs = [field for field in schema if str(field.type).startswith("struct")]
        paths = [f"{field.name}.path" for field in structs if field.type.get_field_index("path") >= 0]
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about.get("info", {}).get("features", {}) if about else {}
        named = {
            column: [plain_text(str(name)) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list)
        }
        return [*schema.names, *paths], named
    except Exception as error:
        raise _unreadable(path, error) from error


def _cells(file: ParquetFile, path: Path, column: str, rows: np.ndarray | None) -> Iterator[Any]:
    """The cells of a column in ascending `rows`, or in all."""
    name, _, inside = column.partition(".") if column not in file.schema_arrow.names else (column, "", "")
    leaves = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
    wanted = [inside] if inside else ["bytes", "path"]
    columns = [leaf for leaf in leaves if leaf in {f"{name}.{part}" for part in wanted}] or [name]
    whole = columns == [name]
    chosen = [
        i for i, leaf in enumerate(leaves) if leaf in columns or (whole and leaf.startswith(f"{name}."))
    ]
    budget = _LEAST + _TIMES * path.stat().st_size
    first = read = 0
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        places = None if rows is None else rows[(rows >= first) & (rows < first + about.num_rows)] - first
        first += about.num_rows
        if places is not None and not len(places):
            continue
        parts = [about.column(i) for i in chosen]
        size, stored = (
            sum(getattr(part, f"total_{kind}_size") for part in parts)
            for kind in ("uncompressed", "compressed")
        )
        if size > budget or sum(part.num_values for part in parts) > max(5 * _ROWS, budget):
            raise _unreadable(path, f"its column {name!r} unpacks to {size:,} bytes, from {stored:,}")
        # A dictionary holds a value once that many rows have, so that a row may be as large as the whole.
        batch_size = max(16 if size < 8 * stored else 1, min(10_000, _BATCH // max(1, size)))
        start = 0
        for batch in file.iter_batches(batch_size, [group], columns):
            values = batch.column(0)
            if places is not None:
                values = values.take(places[(places >= start) & (places < start + len(batch))] - start)
            start += len(batch)
            for cell in values.to_pylist():
                cell = cell[inside] if inside and cell is not None else cell
                if rows is None and (read := read + _size(cell)) > budget:  # all of them stay in memory
                    raise _unreadable(path, f"its column {name!r} takes more than {budget:,} bytes")
                yield cell


def _size(cell: Any) -> int:
    if isinstance(cell, (list, dict)):
        return 8 + sum(map(_size, cell.values() if isinstance(cell, dict) else cell))
    return len(cell) if isinstance(cell, (str, bytes)) else 8


def _unreadable(path: Path, problem: Exception | str) -> InputError:
    reason = problem if isinstance(problem, str) else first_line(problem)
    return InputError(f"{path}: not a readable parquet file ({reason})")
