"""The pictures of a conversion: some to fit on, others to compare on. No label of them is read."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spikeclip.config import ImageFormat
from spikeclip.data.decode import decode
from spikeclip.data.images import Images
from spikeclip.data.known import known_datasets
from spikeclip.data.readers.folders import picture_splits
from spikeclip.data.sources import load_pictures
from spikeclip.defaults import CACHE
from spikeclip.encode.pictures import find_pictures
from spikeclip.errors import InputError, printable
from spikeclip.progress import tracked


class Sample(NamedTuple):
    """Pictures (N, H, W, 3) of the network's size, and a hash of them."""

    images: Images
    fingerprint: str


@dataclass(frozen=True)
class Drawing:
    """How many pictures are drawn, the same share from every source, by `seed`."""

    limit: int = 384
    """To fit on."""
    held_out: int = 100
    """Others, to compare on; a fifth of a source that has fewer than both."""
    split: str = "train"
    """Of sources with splits."""
    seed: int = 0
    cache: str | Path = CACHE
    """Folder of decoded data sets."""


def draw_samples(sources: Sequence[str], image_size: int, drawing: Drawing) -> tuple[Sample, Sample]:
    """Return the pictures to fit on and those to compare on.

    sources: data sets, as `load_pictures` takes them, and folders with pictures anywhere in them. Raises
    `InputError` as `load_pictures` does, and for a source with fewer than two pictures.
    """
    if not sources:
        raise InputError("no pictures to convert with: name a folder or a data set")
    share, others = (-(-count // len(sources)) for count in (drawing.limit, drawing.held_out))
    chosen: list[list[Images]] = [[], []]
    for source in sources:
        images = _drawn(source, image_size, drawing, share + others)
        if len(images) < 2:
            raise InputError(
                f"{source}: {len(images)} pictures are too few: some are fitted on, others compared"
            )
        held = others if len(images) == share + others else min(others, len(images) // 5 or 1)
        chosen[0].append(images.subset(np.arange(held, min(len(images), held + share))))
        chosen[1].append(images.subset(np.arange(held)))
    fitted, compared = map(Images.join, chosen)
    # Mixed, so that every batch has pictures of every source.
    fitted = fitted.subset(np.random.default_rng(drawing.seed).permutation(len(fitted)))
    return _sample(fitted), _sample(compared)


def _drawn(source: str, image_size: int, drawing: Drawing, count: int) -> Images:
    """Return at most `count` pictures of a source, in an order drawn by the seed."""
    rng = np.random.default_rng(drawing.seed)
    if files := _loose(source, drawing.split):
        return _decoded([files[i] for i in rng.permutation(len(files))[:count]], image_size, source)
    pictures = load_pictures(source, drawing.split, ImageFormat(image_size), cache=drawing.cache)
    return pictures.images.subset(rng.permutation(len(pictures))[:count])


def _loose(source: str, split: str) -> list[Path]:
    """Return the pictures of a folder that is no data set with splits, sorted into classes or not; else none."""
    folder = Path(source).expanduser()
    if source in known_datasets() or split != "train" or not folder.is_dir() or (folder / split).is_dir():
        return []
    return find_pictures([source]).files if picture_splits(folder).keys() <= {split} else []


def _decoded(files: Sequence[Path], image_size: int, source: str) -> Images:
    pixels, reasons = [], []
    for file in tracked(files, "reading pictures"):
        found = decode(file, image_size)
        if isinstance(found, str):
            reasons.append(f"{printable(str(file))} ({found})")
        else:
            pixels.append(found)
    if reasons:
        warnings.warn(f"{source}: {len(reasons)} unreadable pictures left out: {reasons[0]}", stacklevel=4)
    return Images([np.stack(pixels) if pixels else np.zeros((0, image_size, image_size, 3), np.uint8)])


def _sample(images: Images) -> Sample:
    digest = hashlib.sha256()
    for start in range(0, len(images), 64):
        digest.update(np.ascontiguousarray(images[start : start + 64]).tobytes())
    return Sample(images, digest.hexdigest())
