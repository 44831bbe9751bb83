"""What is looked for, as one vector: words, pictures, and what is not wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikeclip.encode.embed import embed_texts
from spikeclip.encode.encoder import Encoder, format_of, text_list
from spikeclip.encode.pixels import Picture
from spikeclip.encode.vectors import check_embeddings, unit
from spikeclip.errors import InputError


def query_vector(
    encoder: Encoder,
    *,
    texts: Sequence[str] = (),
    pictures: np.ndarray | Sequence[Picture] = (),
    without: Sequence[str] = (),
) -> np.ndarray:
    """Return the unit vector (dim,) float32 of what is looked for: the sum of texts and pictures less what is unwanted.

    pictures: files, PIL pictures, or uint8 as the encoder reads them. without: texts. Raises `InputError` where there
    is nothing to look for, for an empty text, for a file that cannot be read, and where all cancels out.
    """
    texts, without = text_list(texts), text_list(without)
    if any(not text.strip() for text in (*texts, *without)):
        raise InputError("an empty text finds nothing: say what to look for")
    if not texts and not len(pictures):
        also = " (what is not wanted is taken from it)" if without else ""
        raise InputError(f"nothing to look for: give a text or a picture{also}")
    rows = [embed_texts(encoder, texts)] if texts else []
    if len(pictures):
        format_of(encoder)
        rows.append(encoder.encode_image(pictures))
    wanted_ND = np.concatenate(rows)
    unwanted_ND = embed_texts(encoder, without) if without else wanted_ND[:0]
    check_embeddings(f"the query by {encoder.name}", np.concatenate([wanted_ND, unwanted_ND]))
    total_D = unit(wanted_ND).sum(0) - unit(unwanted_ND).sum(0)
    if np.linalg.norm(total_D) < 1e-4:
        raise InputError("what is wanted and what is not are the same to this model: say it in other words")
    return unit(total_D[None])[0].astype(np.float32)
