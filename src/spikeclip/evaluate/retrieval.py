"""Zero-shot retrieval: texts that find their picture, pictures that find one of their texts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spikeclip.errors import InputError
from spikeclip.evaluate.zero_shot import check_embeddings

RECALL_AT = (1, 5, 10)
_SIMILARITIES = 2**24  # held at once: 64 MB


def retrieval_metrics(
    images_ND: Tensor, texts_MD: Tensor, text_to_image: Tensor | np.ndarray
) -> dict[str, float]:
    """Return image_retrieval_recall@k and text_retrieval_recall@k for k = 1, 5, 10, as fractions.

    text_to_image: (M,) the picture that each text describes. image_retrieval: share of texts whose picture is
    among the k nearest. text_retrieval: share of pictures with any of their texts among the k nearest; a
    picture without a text counts as not found. Raises `InputError` for shapes that do not fit.
    """
    text_to_image = torch.as_tensor(text_to_image, dtype=torch.long, device=images_ND.device)
    check_embeddings("pictures", images_ND)
    check_embeddings("texts", texts_MD)
    if text_to_image.shape != (len(texts_MD),) or images_ND.shape[1] != texts_MD.shape[1]:
        raise InputError(
            f"pictures {tuple(images_ND.shape)}, texts {tuple(texts_MD.shape)} and text_to_image "
            f"{tuple(text_to_image.shape)} do not fit: expected (N, D), (M, D) and (M,)"
        )
    if text_to_image.min() < 0 or text_to_image.max() >= len(images_ND):
        raise InputError(f"text_to_image names pictures outside 0 to {len(images_ND) - 1}")
    texts_MD = texts_MD.to(images_ND.device)
    image_ids = torch.arange(len(images_ND), device=images_ND.device)
    of_text = _recalls(texts_MD, images_ND, text_to_image, image_ids)
    of_image = _recalls(images_ND, texts_MD, image_ids, text_to_image)
    return {
        **{f"image_retrieval_recall@{k}": of_text[k] for k in RECALL_AT},
        **{f"text_retrieval_recall@{k}": of_image[k] for k in RECALL_AT},
    }


def _recalls(queries_QD: Tensor, items_SD: Tensor, query_ids: Tensor, item_ids: Tensor) -> dict[int, float]:
    """For each k the share of queries with an item of the same id among the k most similar."""
    deepest = min(max(RECALL_AT), len(items_SD))
    found = dict.fromkeys(RECALL_AT, 0)
    rows = max(1, _SIMILARITIES // len(items_SD))
    for queries, ids in zip(queries_QD.split(rows), query_ids.split(rows), strict=True):
        nearest = (queries @ items_SD.T).topk(deepest).indices
        hit = item_ids[nearest] == ids[:, None]
        for k in RECALL_AT:
            found[k] += int(hit[:, :k].any(1).sum())
    return {k: found[k] / len(queries_QD) for k in RECALL_AT}
