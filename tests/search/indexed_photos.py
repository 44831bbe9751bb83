"""Pictures, an encoder that counts, and all that an index holds."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from spikeclip.search import Index


class Counting:
    """An encoder that counts the pictures it embeds."""

    def __init__(self, encoder, **changed):
        self._encoder, self.pictures = encoder, 0
        vars(self).update(changed)

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_image(self, images, spikes=None):
        self.pictures += len(images)
        return self._encoder.encode_image(images, spikes)


def draw(path: Path, seed: int, size=(60, 40)) -> Path:
    """A picture of its own for each seed."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path)
    return path


def change(path: Path, seed: int) -> None:
    """Another picture at the same path, a second later."""
    later = os.stat(path).st_mtime + 1
    draw(path, seed)
    os.utime(path, (later, later))


def rows(index: Index) -> dict[str, tuple]:
    """All that must be equal after different histories: by path, content and embedding."""
    found = index.search(np.ones(index.dim), 10_000)
    assert len({hit.path for hit in found}) == len(found) == index.stats().rows
    return {
        str(hit.path): (hit.id, hit.size, hit.mtime, hit.width, hit.height, index.vector(hit.id).tobytes())
        for hit in found
    }
