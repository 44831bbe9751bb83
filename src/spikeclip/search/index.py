"""The index itself: opened or made, brought up to date, searched, checked."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from spikeclip.encode.encoder import Encoder, format_of
from spikeclip.errors import InputError, printable
from spikeclip.search import store
from spikeclip.search.add import bring_up_to_date
from spikeclip.search.check import Verified, other_model, verify
from spikeclip.search.kernel import best, dots
from spikeclip.search.rows import Hit, Rows, load_rows, vectors_of, with_vectors
from spikeclip.search.store import About
from spikeclip.search.where import checked
from spikeclip.search.writer import Added

APPROXIMATE_FROM = 200_000
"""Rows from which on an exact search takes long enough to be spared."""
_TICK = 100_000_000  # nanoseconds, more than a step of the clock of a file system
_FRAGMENTS = 20
"""Files of the table from which on they are joined after an update."""


@dataclass(frozen=True)
class Stats:
    """What an index holds. bytes: on disk. unreadable: by path, with the reason. approximate: see `set_approximate`."""

    rows: int
    bytes: int
    model: str
    fingerprint: str
    folders: list[str]
    unreadable: dict[str, str]
    approximate: bool


class Index:
    """Embeddings of pictures in a folder, to be searched by any number of threads and processes.

    One process at a time may write; others see what it has written at their next search.
    """

    def __init__(self, folder: Path, about: About) -> None:
        self.folder, self._about = folder, about
        self._pictures, self._unreadable = store.open_tables(folder, about.dim)
        # Searches have a handle of their own, which stays at one version while another thread writes.
        self._view, _ = store.open_tables(folder, about.dim)
        self._rows: Rows | None = None
        self._seen, self._lock = 0, Lock()
        self._made = store.made(folder)

    @property
    def fingerprint(self) -> str:
        """That of the encoder which made the embeddings."""
        return self._about.fingerprint

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        return self._about.dim

    @property
    def model(self) -> str:
        """The name of the model that it was made with, as `open_encoder` takes it."""
        return self._about.model

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """Open an index. Raises `InputError` where there is none, or one that cannot be read."""
        folder = _absolute(folder)
        return cls(folder, store.read_about(folder))

    @classmethod
    def create(
        cls, folder: str | Path, encoder: Encoder, *, model: str | None = None, rebuild: bool = False
    ) -> Index:
        """Open the index in a folder, or make one there for an encoder.

        model: the name to open the encoder by, where that is not its own. rebuild: drop all pictures of an index that
        is there; its folders are kept, to be added anew, and `set_approximate`. Raises `InputError` for an index of
        another fingerprint, and for a folder that holds other things.
        """
        format_of(encoder)
        folder = _absolute(folder)
        if not store.is_utf8(str(folder)):
            raise InputError(f"{printable(str(folder))}: its name is not UTF-8: choose another --db")
        name = os.path.abspath(model) if model and os.path.isdir(model) else model or encoder.name
        if not rebuild and (folder / store.ABOUT).is_file():
            index = cls.open(folder)
            index.check(encoder, name)
            return index
        about = About(name, encoder.fingerprint, encoder.dim, [])
        if (folder / store.ABOUT).is_file():
            with suppress(InputError):  # a damaged one says nothing
                before = store.read_about(folder)
                about = replace(about, folders=before.folders, approximate=before.approximate)
        elif folder.is_file() or (
            folder.is_dir() and any(not store.is_ours(file) for file in folder.iterdir())
        ):
            raise InputError(f"{folder} holds other things and no index: choose another --db")
        folder.mkdir(parents=True, exist_ok=True)
        with store.writing(folder):
            if rebuild:
                store.drop_tables(folder)
            store.write_about(folder, about)
        return cls(folder, about)

    def check(self, encoder: Encoder, model: str | None = None) -> None:
        """Raise `InputError` where an encoder did not make the embeddings; model: the name to open it by."""
        if encoder.fingerprint != self.fingerprint:
            raise other_model(self.folder, self._about, encoder, model or encoder.name)

    def add(
        self,
        encoder: Encoder,
        folders: str | Path | Sequence[str | Path] = (),
        *,
        prune: bool = False,
        progress: bool = False,
    ) -> Added:
        """Bring the index up to date with folders of pictures (their subfolders too) or single files.

        folders: without any, those that were indexed before. Files of known size and time are not read, those of known
        content not embedded. prune: drop rows in these folders whose file is gone. Ctrl-C raises `Interrupted`; after
        that, as after a kill, the next call goes on. Raises `InputError` for another model's encoder, a folder that is
        not there or holds nothing any more, and where another process writes.
        """
        self.check(encoder)
        given = all_absolute(folders or self._about.folders)
        if not given:
            raise InputError(f"no folder was indexed in {self.folder} yet: name a folder of pictures")
        with store.writing(self.folder), store.said(self.folder):
            self._pictures.checkout_latest()
            self._unreadable.checkout_latest()
            kept = [*self._about.folders, *(str(folder) for folder in given if folder.is_dir())]
            self._write_about(folders=list(dict.fromkeys(kept)))
            added = bring_up_to_date(self._pictures, self._unreadable, encoder, given, prune, progress)
            parts = self._pictures.stats()["fragment_stats"]["num_small_fragments"]
            if parts > _FRAGMENTS:
                self._optimize()
        return added

    def search(
        self, vector_D: np.ndarray, limit: int = 20, *, offset: int = 0, where: str | None = None
    ) -> list[Hit]:
        """Return the pictures nearest to a vector (dim,), best first; exact unless `set_approximate` says otherwise.

        offset: of the best, how many are left out. where: a condition on the columns in SQL, such as
        "path LIKE '%2024%' AND width > 1000"; see `search.where`. Raises `InputError` for a vector of another shape or
        without direction, and for a condition that is none.
        """
        vector_D = np.asarray(vector_D, np.float32).reshape(-1)
        length = float(np.linalg.norm(vector_D)) if vector_D.shape == (self.dim,) else math.nan
        if not 0 < length < math.inf:
            raise InputError(
                f"expected a vector of {self.dim} numbers, not all zero, got shape {vector_D.shape}"
            )
        if limit < 1 or offset < 0:
            raise InputError(f"limit is at least 1 and offset at least 0, got {limit} and {offset}")
        vector_D = np.ascontiguousarray(vector_D / length)
        with store.said(self.folder):
            rows = self._current(vectors=True)
            assert rows.vectors is not None
            at_K = None if where is None else self._matching(rows, where)
            if rows.codes is not None:
                at_K = rows.codes.candidates(vector_D, limit + offset, at_K)
            scores_K = dots(rows.vectors, vector_D, at_K)
            chosen = best(scores_K, limit + offset)[offset:]
            return rows.hits(chosen if at_K is None else at_K[chosen], scores_K[chosen])

    def get(self, id: str) -> Hit | None:
        """Return the picture with this id, its score NaN; of several files with that content the first."""
        rows = self._current()
        at = rows.find(id)
        return None if at is None else rows.hits(np.array([at]))[0]

    def vector(self, id: str) -> np.ndarray:
        """Return the embedding (dim,) float32 of the picture with this id; raises `InputError` where there is none."""
        if not (found := self.vectors([id])):
            raise InputError(f"no picture in the index has the id {printable(id[:80])!r}")
        return found[id]

    def vectors(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the embeddings, (dim,) float32 each, of the pictures with these ids; others are left out."""
        with store.said(self.folder):
            return vectors_of(ids, self._current(), self._view, self.dim)

    def remove(self, paths: str | Path | Sequence[str | Path]) -> int:
        """Drop the rows of files, or of everything below folders; return how many. The files stay."""
        removed = 0
        given = [str(path) for path in all_absolute(paths)]
        with store.writing(self.folder), store.said(self.folder):
            for table in (self._pictures, self._unreadable):
                table.checkout_latest()
                for path in given:
                    below = f"starts_with(path, {store.quoted(os.path.join(path, ''))})"
                    deleted = table.delete(f"path = {store.quoted(path)} OR {below}").num_deleted_rows
                    removed += deleted if table is self._pictures else 0
            self._write_about(folders=[folder for folder in self._about.folders if folder not in given])
        return removed

    def verify(self) -> Verified:
        """Read every row and look at every file (its size and time, not its content)."""
        with self._lock, store.said(self.folder):
            self._view.checkout_latest()
            return verify(self._view, self.fingerprint, self.dim)

    def compact(self) -> None:
        """Join small files of the tables, and remove what is no longer needed of them."""
        with store.writing(self.folder), store.said(self.folder):
            self._optimize()

    def set_approximate(self, approximate: bool) -> None:
        """Let searches be approximate, or exact again; others see it at their next search.

        Approximate: all rows are compared by one bit a number, of which 2 % are then compared exactly (at least 10,000,
        so that no more rows than these are searched exactly, and 20 for each row that is asked for). What is found has
        its exact score and place, and some rows may be missed, other ones when others were added.
        """
        with store.writing(self.folder):
            self._write_about(approximate=approximate)

    def stats(self) -> Stats:
        """Return what the index holds."""
        with store.said(self.folder):
            self._pictures.checkout_latest()
            self._unreadable.checkout_latest()
            failed = store.read(self._unreadable, ("path", "reason")).to_pylist()
            return Stats(
                rows=self._pictures.count_rows(),
                bytes=store.folder_bytes(self.folder),
                model=self.model,
                fingerprint=self.fingerprint,
                folders=list(self._about.folders),
                unreadable={row["path"]: row["reason"] for row in failed},
                approximate=store.read_about(self.folder).approximate,
            )

    def _current(self, vectors: bool = False) -> Rows:
        """Return the rows of the newest version; vectors: with all that a search needs."""
        with self._lock, store.said(self.folder):
            # Every version of a table is a file here, so that nothing else need be asked.
            seen = os.stat(self.folder / f"{store.PICTURES}.lance" / "_versions").st_mtime_ns
            if (made := store.made(self.folder)) != self._made:
                # Another process may have made the index anew, whose rows have the numbers of others.
                about = store.read_about(self.folder)
                if about.fingerprint != self.fingerprint:
                    raise InputError(
                        f"the index in {self.folder} was made anew by another model: open it again"
                    )
                self._view, _ = store.open_tables(self.folder, self.dim)
                self._rows, self._made, self._about = None, made, about
            if seen != self._seen or self._rows is None:
                self._view.checkout_latest()
                self._rows = load_rows(self._view, self._rows)
                # Of two versions at one tick of the clock, the second would not be noticed.
                self._seen = seen if time.time_ns() - seen > _TICK else 0
            if vectors:
                self._rows = with_vectors(self._rows, self._view, self.dim, self._about.approximate)
            return self._rows

    def _matching(self, rows: Rows, where: str) -> np.ndarray:
        """Return the places (K,) of the rows where a condition holds, ascending."""
        with checked(where):
            found = self._view.search().select(["size"]).where(where).with_row_id(True).to_arrow()
        at_K = rows.at(found["_rowid"].to_numpy())
        return np.sort(at_K[at_K >= 0])  # none but those that came since

    def _write_about(self, **changed: Any) -> None:
        there = store.read_about(self.folder)  # another process may have changed the rest
        self._about = replace(there, **changed)
        if self._about != there:
            store.write_about(self.folder, self._about)

    def _optimize(self) -> None:
        for table in (self._pictures, self._unreadable):
            table.checkout_latest()
            table.optimize(cleanup_older_than=store.READERS_KEEP)


def _absolute(path: str | Path) -> Path:
    """Return a path as rows hold it: from the root, links as they are."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def all_absolute(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return `_absolute` of one path or of several."""
    # A text is a sequence too, whose first letter may be the root of all folders.
    return [_absolute(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
