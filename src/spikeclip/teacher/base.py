"""What every teacher is: images and texts in, unit-length embeddings out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.config import ImageFormat, Taught
from spikeclip.data.pictures import Pictures
from spikeclip.encode.pixels import Picture
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.errors import InputError


class Teacher:
    """A frozen model that a student learns from. `open_teacher` returns the right kind.

    An encoder (see `spikeclip.encode.encoder`) and what training needs besides. Every embedding is (N, dim) float32
    and of unit length.
    """

    name: str
    dim: int
    fingerprint: str
    """Hash of weights, configuration, tokenizer, of what happens to a picture before the network, and of precision."""
    image_format: ImageFormat | None = None
    """Pictures as its network reads them; it resizes others. None for a teacher of texts alone."""
    logit_scale: float = 100.0
    """Factor (not its logarithm) on the cosine between image and text."""
    logit_bias: float = 0.0
    """Added to the scaled cosine; other than 0 for SigLIP only."""
    tokenizer_file: Path | None = None
    """A `tokenizer.json` that reads the teacher's texts, where there is one."""
    taught = Taught()
    """A teacher is used with the prompts that one gives it."""
    texts: list[str] | None = None
    """All the texts a table knows; None for a teacher that reads any text."""
    groups: Mapping[str, str] = {}
    """Of the texts that a table has in groups, the group; agreement with a student is reported for each."""
    held: frozenset[str] | None = None
    """Those of `texts` that a table says are to be held out, so that no others are; None where training chooses."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """See `Encoder.provenance`."""
        return {"config": None, "weights": self.fingerprint, "precision": None}

    def encode_image(
        self,
        images: np.ndarray | Sequence[Picture],
        spikes: SpikeCounts | None = None,
        *,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Embed pictures, (N, H, W, 3) uint8 of any size or files -> (N, dim); `spikes` stays as it is."""
        raise InputError(f"teacher {self.name} embeds text only; images need a CLIP or SigLIP teacher")

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim)."""
        raise NotImplementedError

    def knows(self, text: str) -> bool:
        """Whether `encode_text` has this text; a table holds only some."""
        return True

    def find_images(self, pictures: Pictures) -> np.ndarray:
        """Return stored embeddings of pictures (N, dim), NaN where there is none; tables alone have some."""
        return np.full((len(pictures), self.dim), np.nan, np.float32)

    def find_classes(self, keys: Sequence[Sequence[str]]) -> np.ndarray:
        """Return stored prototypes of classes (K, dim), NaN where there is none; tables alone have some.

        keys: of each class the names to look for, such as its WordNet id and its name.
        """
        return np.full((len(keys), self.dim), np.nan, np.float32)
