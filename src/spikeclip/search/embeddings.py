"""clip-retrieval's folders of embeddings: img_emb/*.npy, and metadata/*.parquet with a row for each.

Its text_emb/*.npy, the embeddings of captions, are neither read nor written: an index holds pictures.

Files of one number belong together, img_emb_03.npy and metadata_03.parquet. clip-retrieval reads the files of a folder
in the order of their names, so that the numbers that are written have equally many digits.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from spikeclip.encode.vectors import check_embeddings, unit
from spikeclip.errors import InputError, first_line
from spikeclip.files import replacing
from spikeclip.search import store
from spikeclip.search.index import Index

_SHARD = 100_000
"""Rows of a file that is written; so many are read at a time."""


def read_embeddings(index: Index, folder: str | Path) -> int:
    """Add the pictures of a clip-retrieval folder to an index that has the same encoder; return how many.

    A row is known by the `image_path` of its metadata, and its id is a hash of embedding and path, because the file may
    be elsewhere; where it is here, under an absolute path, the row has its size and time. Rows of paths that are in the
    index take their place. Raises `InputError` for folders whose files do not fit, for embeddings of another dimension,
    and for values that are not numbers.
    """
    folder, count = Path(folder).expanduser(), 0
    pairs = _pairs(folder)
    for embeddings, _ in pairs:  # before anything is written
        _check_shape(embeddings, index.dim)
    with store.writing(index.folder), store.said(index.folder):
        table, _ = store.open_tables(index.folder, index.dim)
        for embeddings, metadata in pairs:
            for rows, vectors_ND in _read(embeddings, metadata, index.fingerprint):
                store.upsert(table, store.as_batch(rows, vectors_ND))
                count += len(rows)
    return count


def export_embeddings(index: Index, folder: str | Path) -> int:
    """Write an index as a folder that clip-retrieval reads; return how many rows.

    metadata has image_path, and the columns of the index. Raises `InputError` for a folder that is not empty.
    """
    folder = Path(folder).expanduser()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: name a new folder for the embeddings")
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    table, _ = store.open_tables(index.folder, index.dim)
    digits, count = len(str(table.count_rows() // _SHARD)), 0
    for number, part in enumerate(_shards(table)):
        name = f"{number:0{digits}d}"
        with replacing(folder / "img_emb" / f"img_emb_{name}.npy") as file:
            np.save(file, store.embedding_rows(part["embedding"], index.dim))
        about = part.drop_columns(["embedding"])
        about = about.rename_columns(["image_path" if c == "path" else c for c in about.column_names])
        with replacing(folder / "metadata" / f"metadata_{name}.parquet") as file:
            parquet.write_table(about, file)
        count += len(part)
    return count


def _shards(table: store.Table) -> Iterator[pa.Table]:
    """Yield all columns of all rows, `_SHARD` at a time."""
    parts: list[pa.RecordBatch] = []
    for batch in table.search().select([*store.COLUMNS, "embedding"]).to_batches():
        parts.append(batch)
        while sum(map(len, parts)) >= _SHARD:
            whole = pa.Table.from_batches(parts)
            yield whole.slice(0, _SHARD)
            parts = whole.slice(_SHARD).to_batches()
    if any(map(len, parts)):
        yield pa.Table.from_batches(parts)


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return the files of embeddings of pictures, each with that of its metadata."""
    found = sorted((folder / "img_emb").glob("*.npy"))
    if not found:
        texts = ", but there is text_emb: it has no pictures" if (folder / "text_emb").is_dir() else ""
        raise InputError(f"{folder} is no folder of clip-retrieval: expected img_emb/*.npy{texts}")
    pairs = []
    for file in found:
        number = file.stem.removeprefix("img_emb_")
        metadata = folder / "metadata" / f"metadata_{number}.parquet"
        if not metadata.is_file():
            raise InputError(f"{metadata} is missing, which names the pictures of {file.name}")
        pairs.append((file, metadata))
    return pairs


def _mapped(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file} cannot be read: {first_line(error)}") from error


def _check_shape(file: Path, dim: int) -> None:
    rows_ND = _mapped(file)
    if rows_ND.ndim != 2 or rows_ND.dtype.kind != "f":
        raise InputError(f"{file}: expected rows of floats (N, {dim}), got {rows_ND.dtype} {rows_ND.shape}")
    if rows_ND.shape[1] != dim:
        raise InputError(
            f"{file} has embeddings of {rows_ND.shape[1]} numbers, and those of the index have {dim}: name the model "
            "that made them by --model"
        )


def _read(file: Path, metadata: Path, fingerprint: str) -> Iterator[tuple[list[dict[str, Any]], np.ndarray]]:
    rows_ND = _mapped(file)
    try:
        about = parquet.read_table(metadata)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{metadata} cannot be read: {first_line(error)}") from error
    if "image_path" not in about.column_names:
        raise InputError(f"{metadata} has no column image_path, but {', '.join(about.column_names[:10])}")
    if len(about) != len(rows_ND):
        raise InputError(
            f"{metadata} has {len(about):,} rows, and {file.name} {len(rows_ND):,}: expected as many"
        )
    now = time.time()
    for start in range(0, len(about), _SHARD):
        part = about.slice(start, _SHARD)
        vectors_ND = unit(np.asarray(rows_ND[start : start + _SHARD], np.float32))
        check_embeddings(f"pictures in {file}", vectors_ND)
        rows: dict[str, dict[str, Any]] = {}
        at: dict[str, int] = {}
        columns = {
            name: part[name].to_pylist()
            for name in ("image_path", "width", "height")
            if name in part.column_names
        }
        for i, path in enumerate(columns["image_path"]):
            name = os.fsdecode(path) if isinstance(path, bytes) else str(path)
            digest = hashlib.sha256(name.encode("utf-8", "replace") + vectors_ND[i].tobytes()).hexdigest()
            size = {side: _whole(columns.get(side), i) for side in ("width", "height")}
            row = {"id": digest, "path": name, "fingerprint": fingerprint, "indexed": now}
            rows[name], at[name] = row | size | _facts(name), i  # of a path that stands twice, the last
        yield list(rows.values()), vectors_ND[list(at.values())]


def _facts(path: str) -> dict[str, int | float]:
    """Return size and time of a picture file; 0 where it is not here."""
    with suppress(OSError, ValueError):
        if os.path.isabs(path) and stat.S_ISREG((found := os.stat(path)).st_mode):
            return {"size": found.st_size, "mtime": found.st_mtime}
    return {"size": 0, "mtime": 0.0}


def _whole(column: list[Any] | None, i: int) -> int:
    value = None if column is None else column[i]
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 2**31 else 0
