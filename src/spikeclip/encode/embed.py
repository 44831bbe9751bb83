"""Embeddings of whole sets, and of the classes that pictures are compared with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import build_prompts, text_key
from spikeclip.data.readers.listing import listed
from spikeclip.encode.encoder import Encoder, format_of, text_list
from spikeclip.encode.pixels import Picture, as_pixels
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.encode.vectors import class_means
from spikeclip.errors import InputError
from spikeclip.progress import tracked

_ROUNDING = 1e-6
"""Embeddings of unit length that differ by less are those of one text."""


def preprocess(encoder: Encoder, pictures: Sequence[Picture]) -> np.ndarray:
    """Return pictures, files or of PIL, as an encoder reads them: uint8 (N, image_size, image_size, 3).

    Raises `InputError` that names a file that cannot be read, and for an encoder of texts alone or of event recordings.
    """
    return as_pixels(pictures, format_of(encoder))


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
    texts = text_list(texts)
    if not texts:
        raise InputError("no texts to embed")
    return encoder.encode_text(texts)


def zero_shot_classifier(encoder: Encoder, classnames: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """Return one embedding per class (K, dim) float32, unit length.

    Each prompt's embedding is normalised, the prompts of a class are averaged, the average is normalised.
    Raises `InputError` for no classes, no templates or a template without {c}. Warns of classes that the encoder
    cannot tell apart: names that differ by upper case or "_" alone, or after the context length; and of names with
    words that it never learned, where it is known which it did.
    """
    prompts = build_prompts(classnames, templates)
    _warn_of_new_words(encoder, classnames)
    classes_KD = class_means(
        embed_texts(encoder, [text for group in prompts for text in group]), len(prompts)
    )
    if same := equal_rows(classes_KD):
        pairs = [f"{classnames[a]!r} and {classnames[b]!r}" for a, b in same]
        warnings.warn(
            f"{encoder.name} cannot tell these classes apart, because their texts are the same to it: {listed(pairs)}",
            stacklevel=1,  # one place, so that it is said once
        )
    return classes_KD


def _warn_of_new_words(encoder: Encoder, classnames: Sequence[str]) -> None:
    taught = encoder.taught.classnames
    words = {word for name in taught for word in text_key(name).split()}
    new = [name for name in classnames if not words.issuperset(text_key(name).split())] if taught else []
    if new:
        warnings.warn(
            f"{encoder.name} learned no words but those of its {len(taught)} class names ({listed(taught)}), so what "
            f"it says of {listed([repr(name) for name in new])} is a guess",
            stacklevel=1,  # one place, so that it is said once
        )


def equal_rows(rows_KD: np.ndarray) -> list[tuple[int, int]]:
    """Return places of rows that are equal up to rounding, each with the first of its kind."""
    # Equal rows are neighbours when rows are sorted by a projection that tells others apart.
    order_K = np.argsort(rows_KD @ np.random.default_rng(0).standard_normal(rows_KD.shape[1]), kind="stable")
    sorted_KD = rows_KD[order_K]
    new_K = np.r_[True, np.abs(np.diff(sorted_KD, axis=0)).max(1, initial=0) > _ROUNDING]
    kinds: dict[int, list[int]] = {}
    for place, kind in zip(order_K.tolist(), new_K.cumsum().tolist(), strict=True):
        kinds.setdefault(kind, []).append(place)
    groups = sorted(sorted(group) for group in kinds.values() if len(group) > 1)
    return [(group[0], other) for group in groups for other in group[1:]]
