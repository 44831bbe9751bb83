"""The one face of everything that embeds: a spiking network, the same on the engine, a teacher, a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from spikeclip.config import ImageFormat, Taught
from spikeclip.data.readers.listing import plain_text
from spikeclip.encode.pixels import Picture
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.errors import InputError


class Encoder(Protocol):
    """Pictures and texts in, rows of unit length out; who classifies, evaluates or searches needs no more.

    `open_encoder` returns one for whatever a person names. Equal calls give equal rows.
    """

    @property
    def name(self) -> str:
        """What the network is called in results."""
        ...

    @property
    def dim(self) -> int:
        """Dimension of the embedding space."""
        ...

    @property
    def image_format(self) -> ImageFormat | None:
        """The pictures that it reads; None for an encoder of texts alone."""
        ...

    @property
    def logit_scale(self) -> float:
        """Factor (not its logarithm) on the cosine between a picture and a text."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of weights, neurons and preprocessing: encoders that differ in it have different embeddings."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What a result records of the network: `config`, a hash of its `weights`, and `precision`; None if unknown."""
        ...

    @property
    def taught(self) -> Taught:
        """What it was taught with: its prompts are used where none are given."""
        ...

    def encode_image(
        self, images: np.ndarray | Sequence[Picture], spikes: SpikeCounts | None = None
    ) -> np.ndarray:
        """Embed pictures -> (N, dim) float32.

        images: uint8 (N, *image_format.shape), of which a teacher resizes others; or files and PIL pictures.

        spikes: where a spiking network counts what its neurons emit; others leave it empty. Raises `InputError` for
        pictures that it cannot read, and for an encoder of texts alone.
        """
        ...

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim) float32. Raises `InputError` for a bare text, and for one that it cannot embed."""
        ...


def text_list(texts: Sequence[str]) -> list[str]:
    """Return texts as a list, as tokenizers take them; raises `InputError` for a bare text, a row of characters.

    Lone surrogates, which have no bytes, become "?". What is far behind any context length is cut off.
    """
    if isinstance(texts, (str, bytes)):
        raise InputError(f"expected a list of texts, got the text {texts[:40]!r}: write [text]")
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"expected texts, got {type(text).__name__} ({str(text)[:40]!r})")
    return [plain_text(text) for text in texts]


def format_of(encoder: Encoder) -> ImageFormat:
    """Return the pictures that an encoder reads; raises `InputError` for an encoder of texts alone."""
    if encoder.image_format is None:
        raise InputError(f"{encoder.name} embeds text only; this needs a model that embeds pictures too")
    return encoder.image_format
