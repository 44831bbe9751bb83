"""A saved model without PyTorch: both towers on the engine, pictures and texts in, embeddings out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from spikeclip.data.decode import square
from spikeclip.data.prompts import build_prompts
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.encode.pictures import check_labels
from spikeclip.encode.vectors import class_means, unit
from spikeclip.engine.engine import Engine
from spikeclip.graph import ops
from spikeclip.graph.inputs import picture_batches
from spikeclip.graph.saved import load_graphs


class Runtime:
    """`encode_image`, `encode_text` and `classify` of a model that `spikeclip lower` has written graphs for."""

    def __init__(
        self, image: Engine[ops.Image], text: Engine[ops.Tokens], tokenizer: Tokenizer, logit_scale: float
    ) -> None:
        self.image, self.text, self.tokenizer, self.logit_scale = image, text, tokenizer, logit_scale
        self.image_size, self.context_length = image.graph.input.shape[0], text.graph.input.length

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, precision: Literal["fp32", "int8"] = "int8", threads: int | None = None
    ) -> Runtime:
        """Open a saved model with graphs. Raises `InputError` where one is missing or of other weights."""
        folder = Path(folder).expanduser()
        graphs = load_graphs(folder)
        image = Engine(graphs.image, precision=precision, threads=threads)
        text = Engine(graphs.text, precision=precision, threads=threads)
        return cls(image, text, Tokenizer.load(folder), graphs.logit_scale)

    def encode_image(self, images: np.ndarray, normalize: bool = False, batch_size: int = 64) -> np.ndarray:
        """Embed pictures (B, image_size, image_size, 3) uint8 -> (B, embed_dim) float32."""
        return _embed(self.image, picture_batches(self.image.graph, images, batch_size), normalize)

    def encode_text(self, texts: Sequence[str], normalize: bool = False, batch_size: int = 64) -> np.ndarray:
        """Embed texts -> (B, embed_dim) float32."""
        tokens_BL = self.tokenizer.encode(list(texts), self.context_length)
        batches = (tokens_BL[i : i + batch_size] for i in range(0, len(tokens_BL), batch_size))
        return _embed(self.text, batches, normalize)

    def class_embeddings(self, labels: Sequence[str], templates: Sequence[str]) -> np.ndarray:
        """Return one unit-length embedding per label (K, embed_dim): the mean over its prompts, normalised again."""
        prompts = build_prompts(labels, templates)
        return class_means(self.encode_text([text for texts in prompts for text in texts]), len(labels))

    def classify(
        self,
        pictures: Sequence[Image.Image],
        labels: Sequence[str],
        templates: Sequence[str] = ("a photo of a {c}.",),
        top: int | None = None,
    ) -> list[list[dict[str, Any]]]:
        """Return for each picture [{"score", "label"}], best first; see `spikeclip.evaluate.classify`."""
        check_labels(labels)
        if not pictures:
            return []
        images = np.stack([square(picture, self.image_size) for picture in pictures])
        return self.rank(images, self.class_embeddings(labels, templates), labels, top)

    def rank(
        self, images_NHWC: np.ndarray, classes_KD: np.ndarray, labels: Sequence[str], top: int | None = None
    ) -> list[list[dict[str, Any]]]:
        """Return for each picture (uint8) the labels by their softmax score, best first."""
        logits_NK = self.logit_scale * self.encode_image(images_NHWC, normalize=True) @ classes_KD.T
        scores_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
        scores_NK /= scores_NK.sum(1, keepdims=True)
        best_NK = (-scores_NK).argsort(1, kind="stable")[:, :top]
        return [
            [{"score": float(scores_K[k]), "label": labels[k]} for k in best_K]
            for scores_K, best_K in zip(scores_NK, best_NK, strict=True)
        ]


def _embed(tower: Engine, batches: Iterable[np.ndarray], normalize: bool) -> np.ndarray:
    rows_ND = np.concatenate([tower(batch) for batch in batches])
    return unit(rows_ND) if normalize else rows_ND
