"""An index on disk: a folder with index.json and two LanceDB tables, pictures and files that could not be read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from traceback import walk_tb
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from spikeclip.errors import InputError, first_line
from spikeclip.files import lock_file
from spikeclip.records import read_record, write_record

ABOUT, LOCK, PICTURES, UNREADABLE = "index.json", ".lock", "pictures", "unreadable"
FORMAT = 1
COLUMNS = ("id", "path", "size", "mtime", "width", "height", "fingerprint", "indexed")
"""Of the table of pictures, beside the embedding: what a where-clause may name."""
READERS_KEEP = timedelta(hours=1)
"""Versions that were current within this time stay on disk: another process may still read them."""
_NAMES = 500
"""Paths in one condition."""

Table = Any
"""LanceDB's, whose calls are not all typed."""


@dataclass(frozen=True)
class About:
    """What holds for a whole index. folders: those that were indexed, absolute. approximate: its searches."""

    model: str
    fingerprint: str
    dim: int
    folders: list[str]
    approximate: bool = False


def picture_schema(dim: int) -> pa.Schema:
    """Return the columns of the pictures: a row a path, `id` the SHA-256 of the file's content."""
    kinds = (pa.string(), pa.string(), pa.int64(), pa.float64(), pa.int32(), pa.int32(), pa.string())
    fields = list(zip(COLUMNS, (*kinds, pa.float64()), strict=True))
    return pa.schema([*fields, ("embedding", pa.list_(pa.float16(), dim))])


UNREADABLE_SCHEMA = pa.schema(
    [("path", pa.string()), ("size", pa.int64()), ("mtime", pa.float64()), ("reason", pa.string())]
)


def read_about(folder: Path) -> About:
    """Return what index.json says. Raises `InputError` where there is no index, or one that cannot be read."""
    file = folder / ABOUT
    if not file.is_file():
        raise InputError(
            f"no index in {folder}: `spikeclip index FOLDER --db {folder}` makes one of pictures"
        )
    about = read_record(file)
    try:
        if about["format"] != FORMAT:
            raise InputError(
                f"the index in {folder} has format {about['format']!r}, this version reads {FORMAT}: make it again by "
                f"`spikeclip index FOLDER --db {folder} --rebuild`"
            )
        folders = [str(name) for name in about["folders"]]
        facts = str(about["model"]), str(about["fingerprint"]), int(about["dim"])
        return About(*facts, folders, bool(about.get("approximate", False)))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{file} is damaged ({first_line(error)}): remove {folder} and index again"
        ) from error


def write_about(folder: Path, about: About) -> None:
    """Write index.json, all of it or nothing."""
    write_record({"format": FORMAT, **vars(about)}, folder / ABOUT)


def is_utf8(path: str) -> bool:
    """Whether a path can stand in a table."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def made(folder: Path) -> tuple[int, int]:
    """Return what differs when index.json has been written anew."""
    facts = os.stat(folder / ABOUT)
    return facts.st_ino, facts.st_mtime_ns


def is_ours(file: Path) -> bool:
    """Whether a file is what a kill leaves of an index that was about to be made."""
    return file.name == LOCK or file.name.startswith(f".{ABOUT}.")


def open_tables(folder: Path, dim: int) -> tuple[Table, Table]:
    """Open the tables of pictures and of unreadable files, made where there are none; raises `InputError`."""
    with said(folder):
        # A handle stays at the version that it was opened with until it is told otherwise.
        database = lancedb.connect(folder)
        names = {PICTURES: picture_schema(dim), UNREADABLE: UNREADABLE_SCHEMA}
        pictures, unreadable = (
            database.create_table(name, schema=schema, exist_ok=True) for name, schema in names.items()
        )
        if pictures.schema != picture_schema(dim):
            raise InputError(f"the pictures in {folder} have other columns: remove it and index again")
        return pictures, unreadable


def drop_tables(folder: Path) -> None:
    """Remove both tables, and nothing else."""
    with said(folder):
        database = lancedb.connect(folder)
        for name in (PICTURES, UNREADABLE):
            if (folder / f"{name}.lance").is_dir():
                database.drop_table(name)


@contextmanager
def said(folder: Path) -> Iterator[None]:
    """Let an error of LanceDB be one line that names the folder; on damaged files it raises nearly anything."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        called = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
        of_lance = "lance" in str(error).lower() or any(
            name.startswith(("lancedb", "pyarrow")) for name in called
        )
        if not of_lance and not isinstance(error, pa.ArrowException):
            raise
        raise InputError(f"the index in {folder} cannot be used: {reason(error)}") from error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keep an index to this process while it is written; raises `InputError` where another process writes."""
    lock = lock_file(folder / LOCK, "writes", "wait for its end")
    with lock:
        yield


def reason(error: Exception) -> str:
    """Return what LanceDB says without the places in its own source."""
    text = first_line(error).removeprefix("lance error: ").removeprefix("Invalid input, ")
    return text.partition(", /")[0].partition(", rust/")[0].strip()


def quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def conditions(column: str, values: Sequence[str]) -> Iterator[str]:
    """Yield conditions that together hold where a column is one of `values`."""
    for i in range(0, len(values), _NAMES):
        yield f"{column} IN ({', '.join(map(quoted, values[i : i + _NAMES]))})"


def upsert(table: Table, rows: pa.Table) -> None:
    """Write rows, in place of those with the same path where there are any."""
    merge = table.merge_insert("path").when_matched_update_all()
    merge.when_not_matched_insert_all().execute(rows)


def delete(table: Table, paths: Sequence[str]) -> None:
    """Delete the rows of these paths."""
    for condition in conditions("path", paths):
        table.delete(condition)


def read(table: Table, columns: Sequence[str], where: str | None = None) -> pa.Table:
    """Return columns of all rows, or of those where a condition holds."""
    query = table.search().select(list(columns))
    return (query.where(where) if where else query).to_arrow()


def embedding_rows(array: pa.Array | pa.ChunkedArray, dim: int) -> np.ndarray:
    """Return a column of embeddings as an array (N, D) float16."""
    whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return whole.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)


def as_batch(rows: Sequence[Mapping[str, Any]], embeddings_ND: np.ndarray) -> pa.Table:
    """Return rows of pictures, each a mapping of `COLUMNS`, with embeddings (N, D), as a table to be written."""
    dim = embeddings_ND.shape[1]
    schema = picture_schema(dim)
    columns = [pa.array([row[name] for row in rows], schema.field(name).type) for name in COLUMNS]
    flat = pa.array(np.ascontiguousarray(embeddings_ND, np.float16).ravel())
    return pa.table([*columns, pa.FixedSizeListArray.from_arrays(flat, dim)], schema=schema)


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder, bytes."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:  # removed meanwhile
                continue
    return total
