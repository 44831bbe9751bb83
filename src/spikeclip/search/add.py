"""Bring an index up to date with folders of pictures, such that a kill at any moment loses and doubles nothing.

What is known of a file is in the tables alone, and every change of a table is whole or not there. A path stands in one
table at most: it leaves one before it enters the other, and a path in neither is read again.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from spikeclip.encode.encoder import Encoder, format_of
from spikeclip.encode.pictures import find_pictures
from spikeclip.errors import InputError, Interrupted, printable
from spikeclip.search import store
from spikeclip.search.readers import Readers, processors
from spikeclip.search.store import Table
from spikeclip.search.worker import Task
from spikeclip.search.writer import Added, Known, Writer


def bring_up_to_date(
    pictures: Table, unreadable: Table, encoder: Encoder, folders: Sequence[Path], prune: bool, shown: bool
) -> Added:
    """Index what is new or changed in folders (absolute, or single files), see `Index.add`."""
    start, result = time.monotonic(), Added()
    known = _known(pictures, unreadable)
    files = _list(folders)
    if prune:
        _check_mounted(folders, known)
    todo = list(_todo(files, known, result))
    writer = Writer(pictures, unreadable, encoder, known, result)
    with _progress(len(todo), shown) as step, Readers(format_of(encoder).image_size, processors()) as readers:
        try:
            for reading in readers.read(todo):
                writer.take(reading)
                step()
            writer.write()
        except KeyboardInterrupt:
            writer.write()
            raise Interrupted("Interrupted: what was done is kept, and the same command goes on.") from None
    result.moved = _drop_moved(pictures)
    result.added = max(0, result.added - result.moved)
    inside = tuple(os.path.join(folder, "") for folder in folders)
    gone = [path for path in known.unreadable if path.startswith(inside) and _is_gone(path)]
    store.delete(unreadable, gone)
    if prune:
        lost = [path for path in known.files if path.startswith(inside) and path not in files]
        lost = [path for path in lost if _is_gone(path)]
        result.removed = sum(
            pictures.delete(part).num_deleted_rows for part in store.conditions("path", lost)
        )
    result.seconds = time.monotonic() - start
    return result


def _known(pictures: Table, unreadable: Table) -> Known:
    files, failed = (
        store.read(table, ("path", "size", "mtime", last)).select(["path", "size", "mtime", last])
        for table, last in ((pictures, "id"), (unreadable, "reason"))
    )
    return Known(
        *({row[0]: row[1:] for row in zip(*_columns(part), strict=True)} for part in (files, failed))
    )


def _columns(table: pa.Table) -> list[list[Any]]:
    return [column.to_pylist() for column in table.columns]


def _list(folders: Sequence[Path]) -> dict[str, os.stat_result | str]:
    """Return the regular picture files of folders, each with its facts or why there are none."""
    found = find_pictures([str(folder) for folder in folders])
    if absent := [name for name in found.missing if not os.path.lexists(name)]:
        raise InputError(f"no such folder: {printable(absent[0])}")
    files: dict[str, os.stat_result | str] = {}
    for path in map(str, found.files):
        try:
            facts = os.stat(path)
        except OSError as error:
            files[path] = (error.strerror or "cannot be read").lower()
            continue
        if stat.S_ISREG(facts.st_mode):
            files[path] = facts
    return files


def _check_mounted(folders: Sequence[Path], known: Known) -> None:
    """Raise `InputError` where a folder is empty that the index has pictures of: its disk may not be there."""
    for folder in folders:
        inside = os.path.join(folder, "")
        if (
            folder.is_dir()
            and not any(folder.iterdir())
            and any(path.startswith(inside) for path in known.files)
        ):
            raise InputError(
                f"{folder} is empty, and the index has pictures of it: is its disk there? "
                f"`spikeclip index --remove {folder}` drops them"
            )


def _todo(files: dict[str, os.stat_result | str], known: Known, result: Added) -> Iterator[Task]:
    """Yield the files to read: those that are new, and those whose size or time is not the known one."""
    contents = known.contents()
    for path, facts in files.items():
        if isinstance(facts, str):
            result.unreadable[path] = facts
        elif not store.is_utf8(path):
            result.unreadable[path] = "its name is not UTF-8: rename it"
        elif (facts.st_size, facts.st_mtime) == known.files.get(path, ())[:2]:
            result.unchanged += 1
        elif (facts.st_size, facts.st_mtime) == known.unreadable.get(path, ())[:2]:
            result.unreadable[path] = known.unreadable[path][2]
        else:
            yield Task(path, contents.get(facts.st_size, frozenset()))


def _drop_moved(pictures: Table) -> int:
    """Drop rows whose file is gone and whose content has a row of a file that is there; return how many.

    It asks the files and not what this run has done, so that it finishes what a killed one has begun.
    """
    contents, paths = _columns(store.read(pictures, ("id", "path")).select(["id", "path"]))
    groups: dict[str, list[str]] = {}
    for content, path in zip(contents, paths, strict=True):
        groups.setdefault(content, []).append(path)
    moved = []
    for group in groups.values():
        gone = [path for path in group if _is_gone(path)] if len(group) > 1 else []
        moved += gone if len(gone) < len(group) else []
    store.delete(pictures, moved)
    return len(moved)


def _is_gone(path: str) -> bool:
    """Whether there is no such file: not where it may not be looked for."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Any]:
    """A bar with the rate and an estimate; yields what to call after each picture."""
    from rich.console import Console

    from spikeclip.progress import progress_bar

    with progress_bar(Console(stderr=True), shown and total > 0) as bar:
        task, start, done = bar.add_task("indexing", total=total, info=""), time.monotonic(), 0

        def step() -> None:
            nonlocal done
            done += 1
            rate = done / max(1e-9, time.monotonic() - start)
            bar.update(task, advance=1, info=f"{rate:.0f} pictures/s,")

        yield step
