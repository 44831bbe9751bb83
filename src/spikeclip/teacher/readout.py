"""A readout learned from pictures: for an ordinary network, or for a tower that was made from one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from spikeclip.config import ImageConfig
from spikeclip.data.pictures import Pictures
from spikeclip.data.transforms import normalize
from spikeclip.teacher.cache import cached_rows
from spikeclip.teacher.folder import combined
from spikeclip.teacher.image import ImageTeacher
from spikeclip.teacher.ridge import Lesson, Readout, fit_readout, head_readout
from spikeclip.towers.separable import SeparableTower
from spikeclip.towers.weights import weights_hash

STORED = 12.0
"""Weight of a set's stored embeddings; that of pictures which the network itself embeds is 1. Chosen, as
`DAMPING` and `STRENGTH`, on validation pictures of Caltech101, ImageNet and the CIFARs."""
_CHUNK = 32


class Learned(NamedTuple):
    """A readout, and of each set of pictures how many taught it and their cosine to what they were to reach."""

    readout: Readout
    sets: list[dict[str, Any]]


def learn_readout(
    teacher: ImageTeacher,
    parts: Sequence[Pictures],
    cache: Path,
    tower: SeparableTower | None = None,
    config: ImageConfig | None = None,
) -> Learned:
    """Learn the readout of the teacher's network, or of a `tower` with `config`, from pictures.

    parts: training pictures. Those whose embeddings the teacher's tables store are drawn to these, the others to what
    the teacher embeds; both to the map that the network's own head is (`head_readout`). The embeddings are centred, see
    `fit_readout`. A tower's features lie near those of the network it was made from. What is computed is kept in
    `cache`. Raises `InputError` for no pictures.
    """
    lessons, sets = [], []
    centre_D = teacher.prototypes_KD.mean(0)
    for part in parts:
        own_NC = pooled_features(teacher.network, teacher.config, part, cache)
        x_NC = own_NC if tower is None or config is None else pooled_features(tower, config, part, cache)
        y_ND, stored_N = teacher.embed_features(own_NC), np.zeros(len(part), bool)
        found_ND = teacher.find_images(part)
        stored_N = np.isfinite(found_ND).all(1)
        for chosen_N, targets_ND, weight in ((stored_N, found_ND, STORED), (~stored_N, y_ND, 1.0)):
            if chosen_N.any():
                lessons.append(Lesson(x_NC[chosen_N], targets_ND[chosen_N], weight))
                kind = "stored" if weight == STORED else "by the network"
                sets.append(
                    {"set": f"{part.name} {part.split}", "embeddings": kind, "pictures": int(chosen_N.sum())}
                )
    readout = fit_readout(lessons, head_readout(teacher.head, teacher.prototypes_KD), centre_D)
    for row, lesson in zip(sets, lessons, strict=True):
        row["cosine"] = _cosine(readout(lesson.features_NC), lesson.embeddings_ND - centre_D)
    return Learned(readout, sets)


def pooled_features(
    tower: SeparableTower, config: ImageConfig, pictures: Pictures, cache: str | Path
) -> np.ndarray:
    """Return what the readout of a tower reads of pictures (N, C), as a memory map; kept in `cache`."""
    linear = tower.readout.linear

    def compute(rows: slice) -> np.ndarray:
        images_BHWC = torch.from_numpy(np.array(pictures.images[rows])).to(linear.weight.device)
        with torch.inference_mode():
            x_TBC = tower.features(normalize(images_BHWC, *config.normalization))
            return tower.readout.over_time(x_TBC).float().cpu().numpy()

    key = combined("features", weights_hash(tower), repr(config), pictures.fingerprint)[:32]
    return cached_rows(
        compute,
        (len(pictures), linear.in_features),
        Path(cache).expanduser() / "embeddings" / f"features-{key}.npy",
        _CHUNK,
        "float32",
        f"{pictures.name}: features",
    )


def _cosine(a_ND: np.ndarray, b_ND: np.ndarray) -> float:
    lengths_N = np.linalg.norm(a_ND, axis=1) * np.linalg.norm(b_ND, axis=1)
    return float(((a_ND * b_ND).sum(1) / np.maximum(lengths_N, 1e-12)).mean())
