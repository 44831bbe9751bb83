"""Embeddings of whole sets, and of the classes that pictures are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import build_prompts
from spikeclip.encode.encoder import Encoder, format_of
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.encode.vectors import class_means
from spikeclip.errors import InputError
from spikeclip.progress import tracked


def embed_pictures(
    encoder: Encoder,
    pictures: Pictures | np.ndarray,
    batch_size: int = 256,
    progress: bool = False,
    spikes: SpikeCounts | None = None,
) -> np.ndarray:
    """Return the embeddings of pictures (N, dim) float32, unit length.

    pictures: a split, or uint8 (N, *encoder.image_format.shape). spikes: see `Encoder.encode_image`. Raises
    `InputError` for pictures of another size, and for an encoder of texts alone.
    """
    format_of(encoder)
    images = pictures.images if isinstance(pictures, Pictures) else np.asarray(pictures)
    rows_ND = np.empty((len(images), encoder.dim), np.float32)
    for i in tracked(range(0, len(images), batch_size), "embedding pictures", shown=progress):
        rows_ND[i : i + batch_size] = encoder.encode_image(images[i : i + batch_size], spikes)
    return rows_ND


def embed_texts(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """Return the embeddings of texts (N, dim) float32, unit length; raises `InputError` for none."""
    if not texts:
        raise InputError("no texts to embed")
    return encoder.encode_text(list(texts))


def zero_shot_classifier(encoder: Encoder, classnames: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """Return one embedding per class (K, dim) float32, unit length.

    Each prompt's embedding is normalised, the prompts of a class are averaged, the average is normalised.
    Raises `InputError` for no classes, no templates or a template without {c}.
    """
    prompts = build_prompts(classnames, templates)
    return class_means(embed_texts(encoder, [text for group in prompts for text in group]), len(prompts))
