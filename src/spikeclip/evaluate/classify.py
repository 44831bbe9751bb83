"""Zero-shot classification of single pictures against a user's own labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spikeclip.data.decode import square
from spikeclip.encode.pictures import check_labels, rank_files
from spikeclip.evaluate.open import image_size
from spikeclip.evaluate.zero_shot import class_embeddings, embed_pictures
from spikeclip.model import SpikeCLIP
from spikeclip.teacher import Teacher

_BATCH = 64


def classify(
    model: SpikeCLIP | Teacher,
    pictures: Sequence[Image.Image],
    labels: Sequence[str],
    templates: Sequence[str] = ("a photo of a {c}.",),
    top: int | None = None,
) -> list[list[dict[str, Any]]]:
    """Return for each picture [{"score", "label"}], best first, as Hugging Face's pipeline does.

    The scores are a softmax over all labels of the scaled cosines; `top` keeps the best. Raises `InputError`
    for labels that are missing, empty or given twice.
    """
    check_labels(labels)
    if not pictures:
        return []
    size = image_size(model)
    classes_KD = class_embeddings(model, labels, templates)
    images = np.stack([square(picture, size) for picture in pictures])
    return _rank(model, images, classes_KD, labels, top)


def classify_files(
    model: SpikeCLIP | Teacher,
    files: Sequence[Path],
    labels: Sequence[str],
    templates: Sequence[str] = ("a photo of a {c}.",),
    top: int | None = None,
) -> Iterator[tuple[Path, list[dict[str, Any]] | None]]:
    """Yield each file with what `classify` says of it, None for a file that is not a readable picture."""
    check_labels(labels)
    size = image_size(model)
    classes_KD = class_embeddings(model, labels, templates)
    return rank_files(files, size, lambda images: _rank(model, images, classes_KD, labels, top))


def _rank(
    model: SpikeCLIP | Teacher,
    images_NHWC: np.ndarray,
    classes_KD: Tensor,
    labels: Sequence[str],
    top: int | None,
) -> list[list[dict[str, Any]]]:
    images_ND = embed_pictures(model, torch.from_numpy(images_NHWC), _BATCH)
    scale = float(torch.as_tensor(model.logit_scale).detach())
    scores_NK = (scale * images_ND @ classes_KD.T).softmax(-1)
    best_NK = scores_NK.argsort(dim=1, descending=True, stable=True)[:, :top].tolist()
    return [
        [{"score": scores_K[k].item(), "label": labels[k]} for k in best_K]
        for scores_K, best_K in zip(scores_NK, best_NK, strict=True)
    ]
