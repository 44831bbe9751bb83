"""What `spikeclip.search` promises, in a few lines of NumPy."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from spikeclip.encode.vectors import unit
from spikeclip.errors import InputError


@dataclass(frozen=True)
class Hit:
    id: str
    path: Path
    score: float
    size: int
    mtime: float
    width: int
    height: int


@dataclass(frozen=True)
class Stats:
    rows: int


class Index:
    def __init__(self, folder, encoder, files):
        self.folder, self.fingerprint, self.dim, self.model = (
            Path(folder),
            encoder.fingerprint,
            encoder.dim,
            encoder.name,
        )
        self._rows = encoder.encode_image(list(files))
        self._hits = [_hit(file) for file in files]

    def check(self, encoder):
        if encoder.fingerprint != self.fingerprint:
            raise InputError("made by another model: --rebuild")

    def search(self, vector_D, limit=20, *, offset=0, where=None):
        kept = [i for i, hit in enumerate(self._hits) if _fits(hit, where)]
        scores = self._rows @ vector_D
        order = sorted(kept, key=lambda i: -scores[i])[offset : offset + limit]
        return [Hit(**{**vars(self._hits[i]), "score": float(scores[i])}) for i in order]

    def get(self, id):
        return next((hit for hit in self._hits if hit.id == id), None)

    def vector(self, id):
        return self._rows[[hit.id for hit in self._hits].index(id)]

    def stats(self):
        return Stats(len(self._hits))


def query_vector(encoder, *, texts=(), pictures=(), without=()):
    parts = [encoder.encode_text(list(texts)).sum(0)] if texts else []
    parts += [encoder.encode_image(pictures).sum(0)] if len(pictures) else []
    parts += [-encoder.encode_text(list(without)).sum(0)] if without else []
    return unit(np.sum(parts, 0))


def _hit(file):
    with Image.open(file) as picture:
        width, height = picture.size
    found = os.stat(file)
    return Hit(
        hashlib.sha256(file.read_bytes()).hexdigest(), file, 0.0, found.st_size, found.st_mtime, width, height
    )


def _fits(hit, where):
    if where is None:
        return True
    name, operator, value = where.split()
    if operator != ">=":
        raise InputError(f"where: {where!r} is no filter")
    return getattr(hit, name) >= int(value)
