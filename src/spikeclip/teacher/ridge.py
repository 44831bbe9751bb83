"""The linear readout of an image tower: from its pooled features into a teacher's space, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from spikeclip.data.readers.npz import load_arrays
from spikeclip.errors import InputError
from spikeclip.files import file_hash
from spikeclip.towers.separable import SeparableTower

DAMPING = 0.3
"""Of `head_readout`: with a smaller one it answers more as the head does, with a larger one it transfers better."""
STRENGTH = 2.0
"""Of `fit_readout`, in mean variances of the features."""


@dataclass(frozen=True)
class Readout:
    """A linear map of features (N, C) to embeddings (N, D), as `torch.nn.Linear` has it."""

    weight_DC: np.ndarray
    bias_D: np.ndarray

    def __call__(self, features_NC: np.ndarray) -> np.ndarray:
        return features_NC @ self.weight_DC.T + self.bias_D

    def put_into(self, tower: SeparableTower) -> None:
        """Make it the readout of a tower; raises `InputError` where the tower has other sizes."""
        linear = tower.readout.linear
        if self.weight_DC.shape != tuple(linear.weight.shape):
            raise InputError(
                f"a readout of {self.weight_DC.shape} (embedding, features) does not fit a tower of "
                f"{tuple(linear.weight.shape)}"
            )
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(self.weight_DC))
            linear.bias.copy_(torch.from_numpy(self.bias_D))


class Stored(NamedTuple):
    """A readout in a file: the map, what was taken from its embeddings (D,), and a hash of the file."""

    map: Readout
    centre_D: np.ndarray
    fingerprint: str

    @property
    def shape(self) -> tuple[int, int]:
        """Dimensions of the embeddings and of the features."""
        return self.map.weight_DC.shape  # type: ignore[return-value]


def read_readout(file: Path) -> Stored:
    """Read what `spikeclip teacher readout` wrote; raises `InputError` for another file."""
    if not file.is_file():
        raise InputError(f"no such readout: {file}; `spikeclip teacher readout` writes one")
    found = load_arrays(file, "the readout", ("weight", "bias", "centre"))
    arrays = [found.get(name, np.empty(0)) for name in ("weight", "bias", "centre")]
    weight, bias, centre = (array.astype(np.float32) for array in arrays)
    if weight.ndim != 2 or not bias.shape == centre.shape == weight.shape[:1]:
        raise InputError(
            f"{file} is no readout: it lacks weight (D, C), bias (D,) and centre (D,) that fit each other; "
            "`spikeclip teacher readout` writes one"
        )
    return Stored(Readout(weight, bias), centre, file_hash(file))


class Lesson(NamedTuple):
    """Pictures that a readout learns from: features (N, C), the embeddings to reach (N, D), and their weight in all."""

    features_NC: np.ndarray
    embeddings_ND: np.ndarray
    weight: float = 1.0


def head_readout(head: Readout, classes_KD: np.ndarray, damping: float = DAMPING) -> Readout:
    """Turn the head of a classifier into a readout, without a picture.

    head: features -> logits of K classes (N, K). classes_KD: the embeddings of these classes. With both centred over
    the classes, P the embeddings and L the logits, it gives y = (P'P + damping)^-1 P' L: the y whose products with
    the embeddings are most nearly the logits. Its length has no meaning yet, see `fit_readout`.
    """
    p_KD = classes_KD.astype(np.float64)
    p_KD = p_KD - p_KD.mean(0)
    solve_DK = np.linalg.solve(p_KD.T @ p_KD + damping * np.eye(p_KD.shape[1]), p_KD.T)
    return Readout(
        solve_DK @ (head.weight_DC - head.weight_DC.mean(0)), solve_DK @ (head.bias_D - head.bias_D.mean())
    )


def fit_readout(
    lessons: Sequence[Lesson], prior: Readout, centre_D: np.ndarray, strength: float = STRENGTH
) -> Readout:
    """Learn a readout by ridge regression that draws it to a `prior` instead of to zero.

    With X and Y the centred features and embeddings of all lessons, s the mean variance of a feature, and W0 the prior
    times the factor that gives X W0 the length of Y, W = (X'X + strength s)^-1 (X'Y + strength s W0). centre_D is taken
    from the bias: the mean of all pictures' embeddings, so that an embedding says how a picture differs from others.
    CLIP's pictures lie in one cone and its texts in another, and only so does the cosine between a picture and a text
    tell nothing of the gap between them. Raises `InputError` for no lessons.
    """
    if not lessons or not all(len(lesson.features_NC) for lesson in lessons):
        raise InputError("a readout is learned from pictures, and one of its lessons has none")
    total = sum(lesson.weight for lesson in lessons)
    shares = [lesson.weight / total / len(lesson.features_NC) for lesson in lessons]
    pairs = [(share, *map(_double, lesson[:2])) for share, lesson in zip(shares, lessons, strict=True)]
    x_C = sum(share * x.sum(0) for share, x, _ in pairs)
    y_D = sum(share * y.sum(0) for share, _, y in pairs)
    xx_CC = sum(share * (x - x_C).T @ (x - x_C) for share, x, _ in pairs)
    xy_CD = sum(share * (x - x_C).T @ (y - y_D) for share, x, y in pairs)
    prior_CD = prior.weight_DC.T.astype(np.float64)
    length = sum(share * np.sum((y - y_D) ** 2) for share, _, y in pairs)
    prior_CD = prior_CD * np.sqrt(length / np.sum(prior_CD * (xx_CC @ prior_CD)))
    pull = strength * np.trace(xx_CC) / len(prior_CD)
    w_CD = np.linalg.solve(xx_CC + pull * np.eye(len(prior_CD)), xy_CD + pull * prior_CD)
    return Readout(w_CD.T.astype(np.float32), (y_D - x_C @ w_CD - centre_D).astype(np.float32))


def _double(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64)
