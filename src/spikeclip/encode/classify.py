"""Zero-shot classification of single pictures against labels of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.data.decode import decode
from spikeclip.encode.embed import preprocess, zero_shot_classifier
from spikeclip.encode.encoder import Encoder, format_of
from spikeclip.encode.pixels import Picture
from spikeclip.encode.vectors import check_embeddings
from spikeclip.errors import InputError

_BATCH = 64


def classify(
    encoder: Encoder,
    pictures: Sequence[Picture],
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
    top: int | None = None,
) -> list[list[dict[str, Any]]]:
    """Return for each picture [{"score", "label"}], best first, as Hugging Face's pipeline does.

    pictures: files, or PIL pictures of any mode. templates: prompts with {c}; None for those that the encoder was
    taught with. The scores are a softmax over all labels of the scaled cosines; `top` keeps the best. Raises
    `InputError` for fewer than two labels, for one that is empty or given twice, and for a file that cannot be read.
    """
    check_labels(labels)
    images_NHWC = preprocess(encoder, pictures)
    if not len(images_NHWC):
        return []
    classes_KD = zero_shot_classifier(encoder, labels, templates or encoder.taught.prompts)
    return rank(encoder, images_NHWC, classes_KD, labels, top)


def classify_files(
    encoder: Encoder,
    files: Sequence[Path],
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
    top: int | None = None,
) -> Iterator[tuple[Path, list[dict[str, Any]] | str]]:
    """Yield each file with its answer as `classify` gives it, or a text that says why it cannot be read."""
    check_labels(labels)
    size = format_of(encoder).image_size
    classes_KD = zero_shot_classifier(encoder, labels, templates or encoder.taught.prompts)
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        images = [decode(file, size) for file in batch]
        readable = [image for image in images if not isinstance(image, str)]
        answers = iter(rank(encoder, np.stack(readable), classes_KD, labels, top) if readable else [])
        for file, image in zip(batch, images, strict=True):
            yield file, image if isinstance(image, str) else next(answers)


def rank(
    encoder: Encoder,
    images_NHWC: np.ndarray,
    classes_KD: np.ndarray,
    labels: Sequence[str],
    top: int | None = None,
) -> list[list[dict[str, Any]]]:
    """Return for each picture (uint8) the labels by their softmax score, best first.

    Raises `InputError` where the encoder's answers are not numbers, as finite weights can be too large to be of use.
    """
    images_ND = encoder.encode_image(images_NHWC)
    check_embeddings(f"classes by {encoder.name}", classes_KD)
    check_embeddings(f"pictures by {encoder.name}", images_ND)
    scores_NK = class_scores(encoder, images_ND, classes_KD)
    best_NK = (-scores_NK).argsort(1, kind="stable")[:, :top]
    return [
        [{"score": float(scores_K[k]), "label": labels[k]} for k in best_K]
        for scores_K, best_K in zip(scores_NK, best_NK, strict=True)
    ]


def class_scores(encoder: Encoder, images_ND: np.ndarray, classes_KD: np.ndarray) -> np.ndarray:
    """Return the softmax over the classes of the scaled cosines (N, K)."""
    logits_NK = encoder.logit_scale * images_ND @ classes_KD.T
    scores_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
    return scores_NK / scores_NK.sum(1, keepdims=True)


def check_labels(labels: Sequence[str]) -> None:
    """Raise `InputError` for fewer than two labels, and for one that is empty or given twice."""
    if not labels:
        raise InputError("no labels to choose from: give at least two, such as 'cat,dog'")
    if len(labels) == 1:
        raise InputError(
            f"{labels[0]!r} is the only label, and a single one always gets 100 %: give at least two, such as 'cat,dog'"
        )
    if any(not label.strip() for label in labels):
        raise InputError(f"an empty label in {list(labels)}: remove the comma too many, or name the label")
    seen = [label.strip().lower() for label in labels]
    twice = next((label for i, label in enumerate(labels) if seen[i] in seen[:i]), None)
    if twice is not None:
        raise InputError(f"label {twice.strip()!r} is given twice; every label must differ")
