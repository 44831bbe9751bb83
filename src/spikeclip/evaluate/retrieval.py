"""Zero-shot retrieval: texts that find their picture, pictures that find one of their texts."""

from __future__ import annotations

import numpy as np

from spikeclip.encode.vectors import check_embeddings
from spikeclip.errors import InputError

RECALL_AT = (1, 5, 10)
_SIMILARITIES = 2**24  # held at once: 64 MB


def retrieval_metrics(
    images_ND: np.ndarray, texts_MD: np.ndarray, text_to_image: np.ndarray
) -> dict[str, float]:
    """Return image_retrieval_recall@k and text_retrieval_recall@k for k = 1, 5, 10, as fractions.

    text_to_image: (M,) the picture that each text describes. image_retrieval: share of texts whose picture is
    among the k nearest. text_retrieval: share of pictures with any of their texts among the k nearest; a
    picture without a text counts as not found. Raises `InputError` for shapes that do not fit.
    """
    images_ND, texts_MD = np.asarray(images_ND), np.asarray(texts_MD)
    text_to_image = np.asarray(text_to_image, np.int64)
    check_embeddings("pictures", images_ND)
    check_embeddings("texts", texts_MD)
    if text_to_image.shape != (len(texts_MD),) or images_ND.shape[1] != texts_MD.shape[1]:
        raise InputError(
            f"pictures {images_ND.shape}, texts {texts_MD.shape} and text_to_image {text_to_image.shape} do not fit: "
            "expected (N, D), (M, D) and (M,)"
        )
    if text_to_image.min() < 0 or text_to_image.max() >= len(images_ND):
        raise InputError(f"text_to_image names pictures outside 0 to {len(images_ND) - 1}")
    image_ids = np.arange(len(images_ND))
    of_text = _recalls(texts_MD, images_ND, text_to_image, image_ids)
    of_image = _recalls(images_ND, texts_MD, image_ids, text_to_image)
    return {
        **{f"image_retrieval_recall@{k}": of_text[k] for k in RECALL_AT},
        **{f"text_retrieval_recall@{k}": of_image[k] for k in RECALL_AT},
    }


def _recalls(
    queries_QD: np.ndarray, items_SD: np.ndarray, query_ids: np.ndarray, item_ids: np.ndarray
) -> dict[int, float]:
    """For each k the share of queries with an item of the same id among the k most similar."""
    deepest = min(max(RECALL_AT), len(items_SD))
    found = dict.fromkeys(RECALL_AT, 0)
    rows = max(1, _SIMILARITIES // len(items_SD))
    for i in range(0, len(queries_QD), rows):
        similarity_QS = queries_QD[i : i + rows] @ items_SD.T
        nearest = np.argpartition(-similarity_QS, deepest - 1, axis=1)[:, :deepest]
        order = np.argsort(-np.take_along_axis(similarity_QS, nearest, 1), axis=1, kind="stable")
        nearest = np.take_along_axis(nearest, order, 1)
        hit = item_ids[nearest] == query_ids[i : i + rows, None]
        for k in RECALL_AT:
            found[k] += int(hit[:, :k].any(1).sum())
    return {k: found[k] / len(queries_QD) for k in RECALL_AT}
