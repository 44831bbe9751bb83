"""A Hugging Face CLIP or SigLIP model as a teacher of images and texts."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from spikeclip.config import ImageFormat
from spikeclip.encode.encoder import text_list
from spikeclip.encode.pixels import Picture, as_pixels
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.records import read_json
from spikeclip.teacher.folder import combined
from spikeclip.teacher.network import TEXT_BATCH, NetworkTeacher, load
from spikeclip.teacher.transform import Transform

PADDING = {"clip": "longest", "siglip": "max_length"}
"""Of texts, by kind of model; SigLIP pools the last position, so it was trained padded."""


class ClipTeacher(NetworkTeacher):
    """A Hugging Face CLIP or SigLIP model."""

    def __init__(self, folder: Path, name: str, device: str = "cpu", precision: str = "fp32") -> None:
        from transformers import CLIPModel, SiglipModel

        super().__init__(folder, name, device, precision)
        self.kind: str = read_json(folder / "config.json")["model_type"]
        cls = {"clip": CLIPModel, "siglip": SiglipModel}[self.kind]
        self.model: Any = load(cls, folder, name).to(device).eval()
        self.transform = Transform(folder, self.model.config.vision_config.image_size, self.kind)
        self.image_format = ImageFormat(self.transform.image_size)
        self.fingerprint = combined(self.fingerprint, self.transform.fingerprint)
        self.logit_scale = float(self.model.logit_scale.detach().exp())
        self.logit_bias = float(self.model.logit_bias.detach()) if self.kind == "siglip" else 0.0
        self.context_length: int = self.model.config.text_config.max_position_embeddings
        tokenizer_class = read_json(folder / "tokenizer_config.json", default={}).get("tokenizer_class")
        self._strips_punctuation = tokenizer_class == "SiglipTokenizer"
        config = self.model.config
        self.dim = config.projection_dim if self.kind == "clip" else config.vision_config.hidden_size

    def encode_image(
        self,
        images: np.ndarray | Sequence[Picture],
        spikes: SpikeCounts | None = None,
        *,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Embed pictures -> (N, dim): uint8 (N, H, W, 3), resized and normalised as in training, or files."""
        assert self.image_format is not None
        images_NHWC = as_pixels(images, self.image_format)

        def embed(batch_NHWC: np.ndarray) -> Tensor:
            x_BCHW = self.transform(batch_NHWC).to(self.device)
            return self.model.get_image_features(pixel_values=x_BCHW).pooler_output

        return self._batched(images_NHWC, batch_size, embed)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim); longer ones are cut to the model's context."""

        def embed(batch: Sequence[str]) -> Tensor:
            tokens = self._tokenizer(
                [self._canonical(t) for t in batch],
                padding=PADDING[self.kind],
                truncation=True,
                max_length=self.context_length,
                return_tensors="pt",
            ).to(self.device)
            mask = {} if self.kind == "siglip" else {"attention_mask": tokens["attention_mask"]}
            return self.model.get_text_features(input_ids=tokens["input_ids"], **mask).pooler_output

        return self._batched(text_list(texts), TEXT_BATCH, embed)

    def _canonical(self, text: str) -> str:
        """SigLIP read lower case only, version 1 no punctuation; not every tokenizer class does it."""
        if self.kind != "siglip":
            return text
        if self._strips_punctuation:
            text = " ".join(text.translate(str.maketrans("", "", string.punctuation)).split())
        return text.lower()
