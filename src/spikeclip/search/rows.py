"""The rows of an index in memory, as of one version of its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spikeclip.encode.vectors import unit
from spikeclip.search.codes import Codes, encode
from spikeclip.search.store import Table, conditions, embedding_rows, read

SHOWN = ("id", "path", "size", "mtime", "width", "height")


@dataclass(frozen=True)
class Hit:
    """A picture that was found."""

    id: str
    """SHA-256 of the content of its file: files with equal content have the same."""
    path: Path
    score: float
    """Cosine with the query; NaN where there was none."""
    size: int
    """Of the file, bytes."""
    mtime: float
    """When the file was last changed, seconds since 1970."""
    width: int
    """Of the picture, upright, in pixels; 0 where it is not known."""
    height: int


@dataclass(frozen=True)
class Rows:
    """places: LanceDB's numbers of the rows (N,), ascending. about: columns `SHOWN`. vectors: (N, D) float16.

    codes: of the vectors, where a search should be approximate.
    """

    places: np.ndarray
    about: pa.Table
    vectors: np.ndarray | None = None
    codes: Codes | None = None

    def hits(self, at: np.ndarray, scores: np.ndarray | None = None) -> list[Hit]:
        """Return rows (K,) with their scores (K,)."""
        found = self.about.take(pa.array(at)).to_pylist()
        given = [float("nan")] * len(found) if scores is None else scores.tolist()
        return [
            Hit(**{**row, "path": Path(row["path"])}, score=score)
            for row, score in zip(found, given, strict=True)
        ]

    def find(self, id: str) -> int | None:
        """Return where the first row with this id stands, None where there is none."""
        at = pc.index(self.about["id"], pa.scalar(id)).as_py()
        return at if at >= 0 else None

    def find_all(self, ids: Sequence[str]) -> dict[str, int]:
        """Return where the first row with each of these ids stands; ids that are not here are left out."""
        options = pc.SetLookupOptions(pa.array(ids, pa.string()))
        at = np.flatnonzero(pc.call_function("is_in", [self.about["id"]], options).to_numpy())[::-1]
        return dict(zip(self.about["id"].take(pa.array(at)).to_pylist(), at.tolist(), strict=True))

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return where rows with these numbers stand, -1 for those that are not here."""
        at = np.searchsorted(self.places, places)
        here = at < len(self.places)
        here[here] = self.places[at[here]] == places[here]
        return np.where(here, at, -1)


def load_rows(table: Table, before: Rows | None) -> Rows:
    """Read the rows of a table, without embeddings; of those that were there `before`, nothing is read again.

    LanceDB never gives the number of a row to another one, and numbers only grow.
    """
    last = int(before.places[-1]) if before is not None and len(before.places) else None
    query = table.search().select(list(SHOWN)).with_row_id(True)
    new = (query if last is None else query.where(f"_rowid > {last}")).to_arrow()
    rows = _sorted(new)
    if before is None or last is None:
        return rows
    alive = table.search().select(["size"]).with_row_id(True).to_arrow()["_rowid"].to_numpy()
    kept = np.isin(before.places, alive, assume_unique=True)
    places = np.concatenate([before.places[kept], rows.places])
    about = pa.concat_tables([before.about.filter(pa.array(kept)), rows.about]).combine_chunks()
    vectors = None
    if before.vectors is not None:
        vectors = np.empty((len(places), before.vectors.shape[1]), np.float16)
        np.compress(kept, before.vectors, axis=0, out=vectors[: kept.sum()])
        _read_vectors(table, rows.places, vectors[kept.sum() :], last)
    return Rows(places, about, vectors)


def with_vectors(rows: Rows, table: Table, dim: int, codes: bool) -> Rows:
    """Return the rows with their embeddings, and with `codes` of them, read and made where they are missing."""
    if rows.vectors is None:
        vectors = np.empty((len(rows.places), dim), np.float16)
        _read_vectors(table, rows.places, vectors, None)
        rows = replace(rows, vectors=vectors)
    if codes and rows.codes is None and rows.vectors is not None:
        rows = replace(rows, codes=encode(rows.vectors))
    return rows


def vectors_of(ids: Sequence[str], rows: Rows, table: Table, dim: int) -> dict[str, np.ndarray]:
    """Return the embeddings, (dim,) float32 each, of the rows with these ids, read where they are not in memory."""
    found: dict[str, np.ndarray] = {}
    if rows.vectors is not None:
        found = {id: rows.vectors[at] for id, at in rows.find_all(ids).items()}
    else:
        for condition in conditions("id", ids):
            part = read(table, ("id", "embedding"), condition)
            found |= dict(zip(part["id"].to_pylist(), embedding_rows(part["embedding"], dim), strict=True))
    return {id: unit(vector_D.astype(np.float32)) for id, vector_D in found.items()}


def _sorted(found: pa.Table) -> Rows:
    places = found["_rowid"].to_numpy()
    order = np.argsort(places, kind="stable")
    about = found.select(list(SHOWN))
    if (order[1:] < order[:-1]).any():
        about = about.take(pa.array(order))
    return Rows(places[order], about.combine_chunks())


def _read_vectors(table: Table, places: np.ndarray, out_ND: np.ndarray, after: int | None) -> None:
    """Read embeddings into `out_ND`, a batch at a time: as a whole they would take the memory twice."""
    query: Any = table.search().select(["embedding"]).with_row_id(True)
    if after is not None:
        query = query.where(f"_rowid > {after}")
    for batch in query.to_batches():
        at = np.searchsorted(places, batch["_rowid"].to_numpy())
        out_ND[at] = embedding_rows(batch["embedding"], out_ND.shape[1])
