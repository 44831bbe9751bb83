"""The pictures of a conversion: some to fit on, others to compare on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spikeclip.config import ImageFormat
from spikeclip.data.images import Images
from spikeclip.data.sources import load_pictures
from spikeclip.errors import InputError


class Sample(NamedTuple):
    """Pictures (N, H, W, 3) of the network's size, and a hash of them."""

    images: Images
    fingerprint: str


def draw_samples(
    sources: Sequence[str],
    image_size: int,
    *,
    split: str,
    limit: int,
    held_out: int,
    cache: Path,
    seed: int = 0,
) -> tuple[Sample, Sample]:
    """Return `limit` pictures to fit on and `held_out` others, the same share of every source, drawn by `seed`.

    Where the sources have fewer, a fifth is held out. Raises `InputError` as `load_pictures`, and for fewer than two.
    """
    chosen: list[list[Images]] = [[], []]
    names = []
    for source in sources:
        pictures = load_pictures(source, split, ImageFormat(image_size), cache=cache)
        order = np.random.default_rng(seed).permutation(len(pictures))
        others = min(-(-held_out // len(sources)), len(pictures) // 5 or 1)
        fitted = order[others:][: -(-limit // len(sources))]
        if not len(fitted):
            raise InputError(
                f"{source}: one picture of {split!r} is too few: some are fitted on, others compared"
            )
        chosen[0].append(pictures.images.subset(fitted))
        chosen[1].append(pictures.images.subset(order[:others]))
        names.append(pictures.fingerprint)
    samples = []
    for part, images in enumerate(map(Images.join, chosen)):
        # Mixed, so that every batch has pictures of every source.
        mixed = images.subset(np.random.default_rng(seed).permutation(len(images)))
        key = repr([part, seed, limit, held_out, names])
        samples.append(Sample(mixed, hashlib.sha256(key.encode()).hexdigest()))
    return samples[0], samples[1]
