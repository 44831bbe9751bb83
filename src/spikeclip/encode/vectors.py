"""Rows of unit length, and whether rows are numbers at all."""

from __future__ import annotations

import numpy as np

from spikeclip.errors import InputError


def unit(x_ND: np.ndarray) -> np.ndarray:
    """Return the rows with length 1; a row of zeros stays one."""
    return x_ND / np.maximum(np.linalg.norm(x_ND, axis=-1, keepdims=True), 1e-12)


def class_means(prompts_ND: np.ndarray, classes: int) -> np.ndarray:
    """Return one embedding per class (K, embed_dim) of unit length: the mean of its prompts', each of unit length.

    prompts_ND: those of the first class, then of the second, as many for each.
    """
    return unit(unit(prompts_ND).reshape(classes, -1, prompts_ND.shape[-1]).mean(1))


def check_embeddings(what: str, embeddings_ND: np.ndarray) -> None:
    """Raise `InputError` where there are no embeddings or some are not numbers; `what` names them."""
    if embeddings_ND.ndim != 2 or not len(embeddings_ND):
        raise InputError(f"expected embeddings of {what} of shape (N, D), got {tuple(embeddings_ND.shape)}")
    bad = int((~np.isfinite(embeddings_ND).all(1)).sum())
    if bad:
        raise InputError(
            f"{bad} of {len(embeddings_ND)} embeddings of {what} are not numbers (NaN or infinite)"
        )
