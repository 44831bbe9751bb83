"""Texts that a table lacks, by way of a sentence encoder: its space is mapped into the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spikeclip.encode.vectors import unit
from spikeclip.errors import InputError
from spikeclip.teacher.base import Teacher
from spikeclip.teacher.cache import cached_text_embeddings

RIDGE = 0.5
"""Penalty on the map. Of held-out nouns of CLIP ViT-B/32 from all-MiniLM-L6-v2, 0.1 to 3 are all within 0.01 cosine."""


def bridged_text_embeddings(
    teacher: Teacher, encoder: Teacher, texts: Sequence[str], learned: Sequence[str], cache: Path
) -> np.ndarray:
    """Return the teacher's embeddings of the texts it knows, and estimates of the others -> (N, dim), unit length.

    The estimate is linear in the encoder's embedding x, both centred: y = (x - mean x) W + mean y, with
    W = (X'X + RIDGE)^-1 X'Y by ridge regression over `learned`, texts that the teacher knows.
    """
    if len(learned) < 2:
        raise InputError(
            f"teacher.encoder learns from texts that teacher.path knows, and has {len(learned)} of them"
        )
    known = np.array([teacher.knows(text) for text in texts])
    y_ND = teacher.encode_text(learned)
    x_NE = np.asarray(cached_text_embeddings(encoder, [*learned, *texts], cache), np.float32)
    x_NE, asked_NE = x_NE[: len(learned)], x_NE[len(learned) :]
    mean_E, mean_D = x_NE.mean(0), y_ND.mean(0)
    x_NE = x_NE - mean_E
    w_ED = np.linalg.solve(x_NE.T @ x_NE + RIDGE * np.eye(x_NE.shape[1]), x_NE.T @ (y_ND - mean_D))
    out_ND = ((asked_NE - mean_E) @ w_ED + mean_D).astype(np.float32)
    out_ND = unit(out_ND)
    out_ND[known] = teacher.encode_text([text for text, there in zip(texts, known, strict=True) if there])
    return out_ND
