"""Zero-shot classification: pictures against the averaged embeddings of each class's prompts."""

from __future__ import annotations

import math

import numpy as np

from spikeclip.encode.vectors import check_embeddings
from spikeclip.errors import InputError

Labelled = tuple[np.ndarray, np.ndarray]
"""Embeddings (N, D) and their labels (N,)."""
_CHUNK = 4096  # pictures whose logits are held at once


def zero_shot_metrics(
    images_ND: np.ndarray, labels_N: np.ndarray, classes_KD: np.ndarray
) -> dict[str, float]:
    """Return acc1, acc5 and mean_per_class_recall as fractions from 0 to 1, as CLIP_benchmark does.

    acc5 is NaN below five classes; the recall averages over the classes that occur; of classes that are equally near
    the first one counts as nearer. Raises `InputError` for no pictures, labels outside the classes, and embeddings that
    are not numbers.
    """
    images_ND, classes_KD = np.asarray(images_ND), np.asarray(classes_KD)
    labels_N = np.asarray(labels_N, np.int64)
    classes = len(classes_KD)
    check_embeddings("pictures", images_ND)
    check_embeddings("classes", classes_KD)
    if labels_N.shape != (len(images_ND),) or images_ND.shape[1:] != classes_KD.shape[1:]:
        raise InputError(
            f"pictures {images_ND.shape}, labels {labels_N.shape} and classes {classes_KD.shape} do not fit: "
            "expected (N, D), (N,) and (K, D)"
        )
    if labels_N.min() < 0 or labels_N.max() >= classes:
        raise InputError(
            f"labels go from {labels_N.min()} to {labels_N.max()}, but there are {classes} classes"
        )
    chunks = range(0, len(images_ND), _CHUNK)
    nearer_N = np.concatenate(
        [_nearer(images_ND[i : i + _CHUNK] @ classes_KD.T, labels_N[i : i + _CHUNK]) for i in chunks]
    )
    right_N = nearer_N == 0
    totals_K = np.bincount(labels_N, minlength=classes)
    hits_K = np.bincount(labels_N[right_N], minlength=classes)
    present_K = totals_K > 0
    return {
        "acc1": float(right_N.mean()),
        "acc5": float((nearer_N < 5).mean()) if classes >= 5 else math.nan,
        "mean_per_class_recall": float((hits_K[present_K] / totals_K[present_K]).mean()),
    }


def _nearer(logits_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Return how many classes are nearer to each picture than its own (N,)."""
    logit_N1 = np.take_along_axis(logits_NK, labels_N[:, None], 1)
    before_NK = np.arange(logits_NK.shape[1]) < labels_N[:, None]
    return ((logits_NK > logit_N1) | ((logits_NK == logit_N1) & before_NK)).sum(1)
