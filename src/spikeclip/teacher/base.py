"""What every teacher is: images and texts in, unit-length embeddings out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spikeclip.data.pictures import Pictures
from spikeclip.errors import InputError


class Teacher:
    """A frozen model that a student learns from. `open_teacher` returns the right kind.

    Every embedding is (N, dim) float32 and of unit length. A teacher without images has `has_images` False.
    """

    name: str
    dim: int
    fingerprint: str
    """Hash of weights, configuration and tokenizer."""
    transform_fingerprint: str = ""
    """Hash of what happens to a picture before the network, and of the precision."""
    has_images: bool = False
    logit_scale: float = 100.0
    """Factor (not its logarithm) on the cosine between image and text."""
    logit_bias: float = 0.0
    """Added to the scaled cosine; other than 0 for SigLIP only."""
    tokenizer_file: Path | None = None
    """A `tokenizer.json` that reads the teacher's texts, where there is one."""
    texts: list[str] | None = None
    """All the texts a table knows; None for a teacher that reads any text."""

    def embed_images(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Embed pictures (N, H, W, 3) uint8 -> (N, dim)."""
        raise InputError(f"teacher {self.name} embeds text only; images need a CLIP or SigLIP teacher")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim)."""
        raise NotImplementedError

    def knows(self, text: str) -> bool:
        """Whether `embed_texts` has this text; a table holds only some."""
        return True

    def find_images(self, pictures: Pictures) -> np.ndarray:
        """Return stored embeddings of pictures (N, dim), NaN where there is none; tables alone have some."""
        return np.full((len(pictures), self.dim), np.nan, np.float32)

    def find_classes(self, keys: Sequence[Sequence[str]]) -> np.ndarray:
        """Return stored prototypes of classes (K, dim), NaN where there is none; tables alone have some.

        keys: of each class the names to look for, such as its WordNet id and its name.
        """
        return np.full((len(keys), self.dim), np.nan, np.float32)
