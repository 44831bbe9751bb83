"""A teacher's embeddings on disk: computed once, in chunks that survive a kill, read as a memory map."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spikeclip.data.pictures import Pictures
from spikeclip.encode.vectors import unit
from spikeclip.teacher.base import Teacher
from spikeclip.teacher.folder import combined

_TEXT_CHUNK = 1024


def cached_image_embeddings(
    teacher: Teacher,
    pictures: Pictures,
    cache: Path,
    batch_size: int = 256,
    progress: bool = True,
    dtype: Literal["float32", "float16"] = "float32",
    views: Callable[[slice], Iterable[np.ndarray]] | None = None,
    views_key: str = "",
) -> np.ndarray:
    """Return the teacher's embeddings of pictures (N, dim) as a memory map; compute what is not on disk.

    views(rows): several versions (K, H, W, 3) uint8 of the pictures `rows`, whose embeddings are averaged and get
    unit length again; a function of the rows alone. views_key: differs from that of other views.
    """
    key = _key(teacher.fingerprint, pictures.fingerprint, dtype, *filter(None, [views_key]))

    def embed(rows: slice) -> np.ndarray:
        if views is None:
            return teacher.encode_image(np.asarray(pictures.images[rows]), batch_size=batch_size)
        return unit(
            np.sum([teacher.encode_image(view, batch_size=batch_size) for view in views(rows)], axis=0)
        )

    return cached_rows(
        embed,
        shape=(len(pictures), teacher.dim),
        file=Path(cache).expanduser() / "embeddings" / f"images-{key}.npy",
        chunk=batch_size,
        dtype=dtype,
        label=f"{teacher.name}: pictures" if progress else None,
    )


def teacher_image_embeddings(teacher: Teacher, pictures: Pictures, cache: Path) -> np.ndarray:
    """Return a teacher's embeddings of pictures (N, dim): those that it stores, the others computed once.

    NaN where none is stored, and nothing can be computed.
    """
    stored_ND = teacher.find_images(pictures)
    lacking = np.flatnonzero(np.isnan(stored_ND[:, 0]))
    if teacher.image_format is None or not len(lacking):
        return stored_ND
    if len(lacking) == len(pictures):
        return cached_image_embeddings(teacher, pictures, cache)
    stored_ND[lacking] = cached_image_embeddings(teacher, pictures.subset(lacking), cache)
    return stored_ND


def cached_text_embeddings(
    teacher: Teacher,
    texts: Sequence[str],
    cache: Path,
    progress: bool = True,
    dtype: Literal["float32", "float16"] = "float32",
) -> np.ndarray:
    """Return the teacher's embeddings of texts (N, dim) as a memory map; compute what is not on disk."""
    key = _key(teacher.fingerprint, json.dumps(list(texts)), dtype)
    return cached_rows(
        lambda rows: teacher.encode_text(texts[rows]),
        shape=(len(texts), teacher.dim),
        file=Path(cache).expanduser() / "embeddings" / f"texts-{key}.npy",
        chunk=_TEXT_CHUNK,
        dtype=dtype,
        label=f"{teacher.name}: texts" if progress else None,
    )


def _key(*parts: str) -> str:
    return combined(*parts)[:32]


def cached_rows(
    embed: Callable[[slice], np.ndarray],
    shape: tuple[int, int],
    file: Path,
    chunk: int,
    dtype: str,
    label: str | None,
) -> np.ndarray:
    """Return the rows in `file`, or compute them by chunks into `file`.partial, renamed when it is whole.

    embed(rows): the rows of a slice. chunk: how many at a time. label: before the bar of progress, None for no bar.

    A journal holds how many rows of the partial file are on disk; what a kill left behind them is cut off.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):  # a second process waits, then finds the file
        rows_ND = _open(file, shape, dtype)
        if rows_ND is None:
            _compute(embed, shape, file, chunk, np.dtype(dtype), label)
            rows_ND = _open(file, shape, dtype)
    assert rows_ND is not None
    return rows_ND


def _open(file: Path, shape: tuple[int, int], dtype: str) -> np.ndarray | None:
    if not file.is_file():
        return None
    try:
        rows_ND = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):  # cut short by someone else; computed anew
        return None
    return rows_ND if rows_ND.shape == shape and rows_ND.dtype == np.dtype(dtype) else None


def _compute(
    embed: Callable[[slice], np.ndarray],
    shape: tuple[int, int],
    file: Path,
    chunk: int,
    dtype: np.dtype,
    label: str | None,
) -> None:
    count, dim = shape
    partial, journal = Path(f"{file}.partial"), Path(f"{file}.partial.json")
    done = _rows_done(partial, journal, shape, dtype)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, disable=label is None or count - done <= chunk)
    with partial.open("r+b" if done else "wb") as out, bar:
        task = bar.add_task(label or "", total=count, completed=done)
        np.lib.format.write_array_header_1_0(
            out, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        )
        # Written, not memory-mapped: a full disk is an OSError here, and a kill by SIGBUS there.
        out.truncate(out.seek(out.tell() + done * dim * dtype.itemsize))
        for start in range(done, count, chunk):
            rows_ND = embed(slice(start, min(start + chunk, count)))
            out.write(np.ascontiguousarray(rows_ND, dtype).tobytes())
            out.flush()
            os.fsync(out.fileno())
            _write_journal(journal, start + len(rows_ND))
            bar.update(task, completed=start + len(rows_ND))
    os.replace(partial, file)
    journal.unlink(missing_ok=True)


def _rows_done(partial: Path, journal: Path, shape: tuple[int, int], dtype: np.dtype) -> int:
    """How many rows are on disk; 0 where the journal is damaged, or says more than the file holds."""
    count, dim = shape
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        done = int(json.loads(journal.read_text())["done"])
        if 0 <= done <= count and partial.stat().st_size > done * dim * dtype.itemsize:
            return done
    return 0


def _write_journal(journal: Path, done: int) -> None:
    new = journal.with_suffix(".new")
    new.write_text(json.dumps({"done": done}))
    os.replace(new, journal)
