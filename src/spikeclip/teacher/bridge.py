"""Texts that a table lacks, by way of a sentence encoder: its space is mapped into the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from spikeclip.encode.vectors import unit
from spikeclip.errors import InputError
from spikeclip.teacher.base import Teacher
from spikeclip.teacher.cache import cached_text_embeddings

RIDGE = 0.1
"""Penalty on the map; 0.03 to 0.3 are within 0.002 cosine of each other."""
NARROW = 2.25
"""How fast two texts lose sight of each other. Nouns of CLIP ViT-B/32 from all-MiniLM-L6-v2, held out by fifths,
centred cosine: a linear map 0.47, 0.75 here 0.54, 1.5 0.56, 2.25 0.56, 3.75 0.57. Of 713 ImageNet classes whose name is
none of the nouns the prototypes told apart: a linear map 0.19, and 0.26, 0.27, 0.28, 0.27."""
MOST = 4096
"""Texts that the map is fitted to; of more, every second, third, ... one is taken."""


def bridged_text_embeddings(
    teacher: Teacher, encoder: Teacher, texts: Sequence[str], learned: Sequence[str], cache: Path
) -> np.ndarray:
    """Return the teacher's embeddings of the texts it knows, and estimates of the others -> (N, dim), unit length.

    The estimates are those of `fit_bridge` over `learned`, texts that the teacher knows.
    """
    if len(learned) < 2:
        raise InputError(
            f"teacher.encoder learns from texts that teacher.path knows, and has {len(learned)} of them"
        )
    known = np.array([teacher.knows(text) for text in texts])
    x_NE = np.asarray(cached_text_embeddings(encoder, [*learned, *texts], cache), np.float32)
    bridge = fit_bridge(x_NE[: len(learned)], teacher.encode_text(learned))
    out_ND = unit(bridge(x_NE[len(learned) :]))
    out_ND[known] = teacher.encode_text([text for text, there in zip(texts, known, strict=True) if there])
    return out_ND


def fit_bridge(x_NE: np.ndarray, y_ND: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a map from an encoder's embeddings (M, E) to estimates of a teacher's (M, D), not of unit length.

    Ridge regression in the space of a Gaussian kernel, y(x) = k(x)' (K + RIDGE)^-1 (Y - mean y) + mean y, with
    k(x, x') = exp(-NARROW |x - x'|^2 / mean |x - x'|^2). What is far from all of x_NE goes to the mean.
    x_NE, y_ND: both of the same texts.
    """
    step = -(-len(x_NE) // MOST)
    x_NE, y_ND = x_NE[::step].astype(np.float64), y_ND[::step]
    mean_D = y_ND.mean(0)
    scale = NARROW / max(_squared_distances(x_NE, x_NE).mean(), 1e-12)

    def kernel(a_ME: np.ndarray) -> np.ndarray:
        return np.exp(-scale * _squared_distances(a_ME, x_NE))

    w_ND = np.linalg.solve(kernel(x_NE) + RIDGE * np.eye(len(x_NE)), y_ND - mean_D)

    def bridge(a_ME: np.ndarray) -> np.ndarray:
        parts = [kernel(part) @ w_ND + mean_D for part in np.array_split(a_ME, -(-len(a_ME) // MOST) or 1)]
        return np.concatenate(parts).astype(np.float32)

    return bridge


def _squared_distances(a_ME: np.ndarray, b_NE: np.ndarray) -> np.ndarray:
    squares_MN = (a_ME**2).sum(1)[:, None] + (b_NE**2).sum(1) - 2 * a_ME @ b_NE.T
    return np.maximum(squares_MN, 0)
