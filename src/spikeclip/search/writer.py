"""What was read, embedded in batches and written as rows: every change of a table is whole or not there."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from spikeclip.encode.encoder import Encoder
from spikeclip.encode.vectors import check_embeddings
from spikeclip.search import store
from spikeclip.search.store import Table
from spikeclip.search.worker import Reading

BATCH = 64
"""Pictures that are embedded at a time."""
_ROWS, _SECONDS = 4096, 10.0
"""After so many rows, or so long, what is done is written: a kill costs no more than that."""


@dataclass
class Added:
    """What was done: numbers of pictures, and names.

    changed: content or time of the file. moved: the row is kept, under its new path. removed: rows of files that are
    gone.
    """

    added: int = 0
    unchanged: int = 0
    moved: int = 0
    changed: int = 0
    removed: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why each file cannot be read, also of those that were tried by an earlier run and have not changed."""
    seconds: float = 0.0


@dataclass
class Known:
    """What the tables hold, by path."""

    files: dict[str, tuple[int, float, str]]
    """Size, time of change, and hash."""
    unreadable: dict[str, tuple[int, float, str]]
    """Size, time of change, and reason."""

    def contents(self) -> dict[int, frozenset[str]]:
        """Return the hashes of the pictures of each size."""
        by_size: dict[int, set[str]] = {}
        for size, _, content in self.files.values():
            by_size.setdefault(size, set()).add(content)
        return {size: frozenset(found) for size, found in by_size.items()}


class Writer:
    """Gathers what was read, embeds it in batches, and writes rows."""

    def __init__(
        self, pictures: Table, unreadable: Table, encoder: Encoder, known: Known, result: Added
    ) -> None:
        self.pictures, self.unreadable, self.encoder = pictures, unreadable, encoder
        self.known, self.result = known, result
        self.batch: list[Reading] = []
        self.rows: list[dict[str, Any]] = []
        self.embeddings: list[np.ndarray] = []
        self.copies: list[Reading] = []
        self.failed: list[Reading] = []
        self.written = time.monotonic()

    def take(self, reading: Reading) -> None:
        """Keep one reading; what has gathered is embedded and written from time to time."""
        if reading.why:
            self.result.unreadable[reading.path] = reading.why
            self.failed.append(reading)
        elif reading.pixels is None:
            self.copies.append(reading)
        else:
            self.batch.append(reading)
        if len(self.batch) == BATCH:
            self._embed()
        late = time.monotonic() - self.written > _SECONDS
        if late or len(self.rows) + len(self.copies) + len(self.failed) >= _ROWS:
            self.write()

    def write(self) -> None:
        """Embed and write everything that was taken."""
        self._embed()
        self._copy()
        paths = [row["path"] for row in self.rows]
        bad = [reading.path for reading in self.failed]
        store.delete(self.unreadable, [path for path in (*paths, *bad) if path in self.known.unreadable])
        store.delete(self.pictures, [path for path in bad if path in self.known.files])
        if self.rows:
            table = store.as_batch(self.rows, np.concatenate(self.embeddings))
            old = np.array([path in self.known.files for path in paths])
            if changed := table.filter(pa.array(old)):
                store.upsert(self.pictures, changed)
            if new := table.filter(pa.array(~old)):
                self.pictures.add(new)
            self.result.added += len(table) - len(changed)
        lasting = [reading for reading in self.failed if reading.lasting]
        if lasting:
            columns = [
                [getattr(reading, name) for reading in lasting] for name in ("path", "size", "mtime", "why")
            ]
            self.unreadable.add(pa.table(columns, schema=store.UNREADABLE_SCHEMA))
        for kept in (self.rows, self.embeddings, self.copies, self.failed):
            kept.clear()
        self.written = time.monotonic()

    def _embed(self) -> None:
        if not self.batch:
            return
        pixels = [reading.pixels for reading in self.batch if reading.pixels is not None]
        rows_ND = self.encoder.encode_image(np.stack(pixels))
        check_embeddings(f"pictures by {self.encoder.name}", rows_ND)
        now = time.time()
        self.rows += [self._row(reading, reading.width, reading.height, now) for reading in self.batch]
        self.result.changed += sum(reading.path in self.known.files for reading in self.batch)
        self.embeddings.append(rows_ND.astype(np.float16))
        self.batch.clear()

    def _copy(self) -> None:
        """Give files whose content has a row already, under this path or another, the embedding that is there."""
        if not self.copies:
            return
        found: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
        for condition in store.conditions("id", sorted({reading.id for reading in self.copies})):
            part = store.read(self.pictures, ("id", "width", "height", "indexed", "embedding"), condition)
            vectors_ND = store.embedding_rows(part["embedding"], self.encoder.dim)
            about = part.drop_columns(["embedding"]).to_pylist()
            found |= {row["id"]: (row, vector) for row, vector in zip(about, vectors_ND, strict=True)}
        for reading in self.copies:
            row, vector_D = found[reading.id]
            self.rows.append(self._row(reading, row["width"], row["height"], row["indexed"]))
            self.embeddings.append(vector_D[None])
            before = self.known.files.get(reading.path)
            if before is not None:
                same = before[2] == reading.id
                self.result.unchanged += same
                self.result.changed += not same

    def _row(self, reading: Reading, width: int, height: int, indexed: float) -> dict[str, Any]:
        about = {"id": reading.id, "path": reading.path, "size": reading.size, "mtime": reading.mtime}
        more = {"width": width, "height": height, "fingerprint": self.encoder.fingerprint, "indexed": indexed}
        return about | more
