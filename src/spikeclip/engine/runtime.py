"""A saved model without PyTorch: both towers on the engine, pictures and texts in, embeddings out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spikeclip.data.tokenizer import Tokenizer
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.encode.vectors import unit
from spikeclip.engine.engine import Engine
from spikeclip.engine.run import kernels_of
from spikeclip.engine.threads import compile_kernels
from spikeclip.graph.inputs import picture_batches
from spikeclip.graph.saved import SavedGraphs, load_graphs
from spikeclip.graph.shapes import shapes
from spikeclip.pretrained.resolve import resolve
from spikeclip.records import read_json

_BATCH = 64


class Runtime:
    """An encoder (see `spikeclip.encode.encoder`) of a model that `spikeclip lower` has written graphs for."""

    def __init__(
        self,
        graphs: SavedGraphs,
        tokenizer: Tokenizer,
        name: str = "graphs",
        *,
        config: Mapping[str, Any] | None = None,
        precision: Literal["fp32", "int8"] = "int8",
        threads: int | None = None,
    ) -> None:
        self.name, self.tokenizer, self.logit_scale = name, tokenizer, graphs.logit_scale
        self.image = Engine(graphs.image, precision=precision, threads=threads)
        self.text = Engine(graphs.text, precision=precision, threads=threads)
        self.provenance = {"config": config, "weights": graphs.weights, "precision": f"engine {precision}"}
        picture, self.context_length = graphs.image.input, graphs.text.input.length
        self.image_format = picture.format
        self.dim = shapes(graphs.image)[graphs.image.ops[-1].name][-1]
        # In fp32 the embeddings are those of PyTorch up to rounding.
        fingerprint = graphs.fingerprint or graphs.weights
        self.fingerprint = fingerprint if precision == "fp32" else f"{fingerprint}-{precision}"

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        precision: Literal["fp32", "int8"] = "int8",
        threads: int | None = None,
    ) -> Runtime:
        """Open a saved model with graphs: a folder, a run or a hub name.

        Raises `InputError` where a graph is missing or of other weights.
        """
        folder = resolve(source).folder
        graphs, config = load_graphs(folder), read_json(folder / "config.json", default={})
        config.pop("model_type", None)
        return cls(
            graphs,
            Tokenizer.load(folder),
            config.get("name", folder.name),
            config=config or None,
            precision=precision,
            threads=threads,
        )

    def encode_image(self, images_NHWC: np.ndarray, spikes: SpikeCounts | None = None) -> np.ndarray:
        """Embed uint8 pictures (N, *image_format.shape) -> (N, dim) float32, unit length.

        spikes: counts what the neurons emit; then every layer runs by its events.
        """

        def watch(layer: str, s_TX: np.ndarray) -> None:
            assert spikes is not None
            spikes.add(f"image.{layer}", float(s_TX.sum()), float(np.count_nonzero(s_TX)), s_TX.size)

        batches = picture_batches(self.image.graph, images_NHWC, _BATCH)
        return self._rows(self.image(batch, watch if spikes is not None else None) for batch in batches)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim) float32, unit length."""
        tokens_NL = self.tokenizer.encode(list(texts), self.context_length)
        return self._rows(self.text(tokens_NL[i : i + _BATCH]) for i in range(0, len(tokens_NL), _BATCH))

    def _rows(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        compile_kernels(
            kernels_of([*self.image.by_events, *self.text.by_events])
        )  # in one go: most need both
        rows = list(batches)
        return unit(np.concatenate(rows)) if rows else np.empty((0, self.dim), np.float32)
