"""A saved network of ours as a teacher: of one that is smaller, or has fewer levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spikeclip.encode.pixels import Picture, as_pixels
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.encode.student import Student
from spikeclip.graph.rebuild import load_network
from spikeclip.teacher.base import Teacher


class SavedTeacher(Teacher):
    """A saved spiking network, or its ReLU twin: both of its towers, in the space that it learned."""

    def __init__(self, folder: Path, name: str, device: str = "cpu", precision: str = "fp32") -> None:
        """Raises `InputError` for a model that cannot be read."""
        self.name = name
        self.student = Student(load_network(folder).to(device), bf16=precision == "bf16")
        self.dim, self.image_format = self.student.dim, self.student.image_format
        self.logit_scale, self.fingerprint = self.student.logit_scale, self.student.fingerprint
        tokenizer = folder / "tokenizer.json"
        self.tokenizer_file = tokenizer if tokenizer.is_file() else None

    @property
    def provenance(self) -> Mapping[str, Any]:
        return self.student.provenance

    def encode_image(
        self,
        images: np.ndarray | Sequence[Picture],
        spikes: SpikeCounts | None = None,
        *,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Embed pictures -> (N, dim): uint8 (N, H, W, 3) of any size, event recordings of its own, or files."""
        format = self.student.image_format
        if isinstance(images, np.ndarray) and images.ndim == 4 and images.shape[-1] == 3:
            images = (
                images if images.shape[1:] == format.shape else [Image.fromarray(image) for image in images]
            )
        batched = Student(self.student.model, batch_size, self.student.bf16)
        return batched.encode_image(as_pixels(images, format))

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim)."""
        return self.student.encode_text(texts)
