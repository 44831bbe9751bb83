"""Whether an index agrees with itself, with the files that it is of, and with a model."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikeclip.encode.encoder import Encoder
from spikeclip.errors import InputError
from spikeclip.search.store import About, Table, embedding_rows

_ROUNDING = 0.01
"""Of the length of a unit vector whose numbers have 16 bits, with room to spare."""


@dataclass(frozen=True)
class Verified:
    """What is wrong, as paths; an index without fault has none.

    gone: there is no such file any more. changed: size or time of the file are others. broken: the embedding is no
    unit vector, or of another model. twice: a path with more than one row.
    """

    rows: int
    gone: list[str]
    changed: list[str]
    broken: list[str]
    twice: list[str]


def verify(table: Table, fingerprint: str, dim: int) -> Verified:
    """Read every row of a table of pictures, and look at every file: its size and time, not its content."""
    paths: Counter[str] = Counter()
    gone, changed, broken = [], [], []
    columns = ["path", "size", "mtime", "fingerprint", "embedding"]
    for batch in table.search().select(columns).to_batches():
        vectors_ND = embedding_rows(batch["embedding"], dim).astype(np.float32)
        lengths = np.linalg.norm(vectors_ND, axis=1).tolist()
        for row, length in zip(batch.drop_columns(["embedding"]).to_pylist(), lengths, strict=True):
            path = row["path"]
            paths[path] += 1
            if not abs(length - 1) < _ROUNDING or row["fingerprint"] != fingerprint:
                broken.append(path)
            if (row["size"], row["mtime"]) == (0, 0):
                continue  # from somebody's embeddings, and not here when they were read
            try:
                facts = os.stat(path)
            except OSError:
                gone.append(path)
                continue
            if (facts.st_size, facts.st_mtime) != (row["size"], row["mtime"]):
                changed.append(path)
    twice = [path for path, count in paths.items() if count > 1]
    return Verified(paths.total(), gone, changed, broken, twice)


def other_model(folder: Path, about: About, encoder: Encoder, name: str) -> InputError:
    """Return the `InputError` for an encoder that did not make an index; name: what opens it."""
    (weights, _, made), (others, _, here) = (
        fingerprint.partition("-") for fingerprint in (about.fingerprint, encoder.fingerprint)
    )
    if weights == others:  # with the same weights, precisions still differ in their embeddings
        return InputError(
            f"the index in {folder} was made by {about.model} in {made or 'fp32'}, and {encoder.name} in "
            f"{here or 'fp32'} has other embeddings: ask it in {made or 'fp32'}"
        )
    return InputError(
        f"the index in {folder} was made by {about.model} ({weights[:8]}), and {encoder.name} ({others[:8]}) has other "
        "embeddings, or another number in this version of spikeclip: name that model, or make the index anew by "
        f"`spikeclip index --db {folder} --model {name} --rebuild`"
    )
