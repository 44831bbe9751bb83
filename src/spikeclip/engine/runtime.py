"""A saved model without PyTorch: both towers on the engine, pictures and texts in, embeddings out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spikeclip.config import read_config, to_dict
from spikeclip.data.tokenizer import Tokenizer, check_tokenizer, no_tokenizer
from spikeclip.encode.encoder import text_list
from spikeclip.encode.pixels import Picture, as_pixels
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.encode.vectors import unit
from spikeclip.engine.engine import Engine
from spikeclip.engine.threads import compile_kernels
from spikeclip.graph.inputs import check_pixels
from spikeclip.graph.saved import SavedGraphs, load_graphs
from spikeclip.graph.shapes import shapes
from spikeclip.pretrained.resolve import resolve

_BATCH, _ROOM = 64, 2**28
"""Inputs at a time, and the most numbers of one value for all of them."""


class Runtime:
    """An encoder (see `spikeclip.encode.encoder`) of a model that `spikeclip lower` has written graphs for."""

    def __init__(
        self,
        graphs: SavedGraphs,
        tokenizer: Tokenizer | None,
        name: str = "graphs",
        *,
        config: Mapping[str, Any] | None = None,
        precision: Literal["fp32", "int8"] = "int8",
        threads: int | None = None,
    ) -> None:
        self.name, self.tokenizer, self.logit_scale = name, tokenizer, graphs.logit_scale
        self.taught = graphs.taught
        self.image = Engine(graphs.image, precision=precision, threads=threads)
        self.text = Engine(graphs.text, precision=precision, threads=threads)
        # Compiled in one go: most need both.
        self._kernels = [*([] if self.image.whole else self.image.kernels), *self.text.kernels]
        self.provenance = {"config": config, "weights": graphs.weights, "precision": f"engine {precision}"}
        picture, self.context_length = graphs.image.input, graphs.text.input.length
        self.image_format = picture.format
        check_tokenizer(tokenizer, graphs.text.input.eos_id, name)
        values = [*shapes(graphs.image).values(), *shapes(graphs.text).values()]
        self.dim = values[-1][-1]
        self._batch = max(1, min(_BATCH, _ROOM // max(map(math.prod, values))))
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
        graphs, config = load_graphs(folder), None
        if (folder / "config.json").is_file():
            config = to_dict(read_config(folder))
        return cls(
            graphs,
            Tokenizer.load(folder) if (folder / "tokenizer.json").is_file() else None,
            config["name"] if config else folder.name,
            config=config,
            precision=precision,
            threads=threads,
        )

    def encode_image(
        self, images: np.ndarray | Sequence[Picture], spikes: SpikeCounts | None = None
    ) -> np.ndarray:
        """Embed pictures -> (N, dim) float32, unit length; see `Encoder.encode_image`.

        spikes: counts what the neurons emit; then every layer runs by its events.
        """

        def watch(layer: str, s_TX: np.ndarray) -> None:
            assert spikes is not None
            spikes.add(f"image.{layer}", float(np.abs(s_TX).sum()), float(np.count_nonzero(s_TX)), s_TX.size)

        images_NHWC = as_pixels(images, self.image_format)
        check_pixels(self.image.graph.input, images_NHWC)
        starts = range(0, len(images_NHWC), self._batch)
        batches = (images_NHWC[i : i + self._batch] for i in starts)
        return self._rows(self.image(batch, watch if spikes is not None else None) for batch in batches)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim) float32, unit length; raises `InputError` where the model has no tokenizer."""
        if self.tokenizer is None:
            raise no_tokenizer(self.name)
        tokens_NL = self.tokenizer.encode(text_list(texts), self.context_length)
        starts = range(0, len(tokens_NL), self._batch)
        return self._rows(self.text(tokens_NL[i : i + self._batch]) for i in starts)

    def _rows(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        compile_kernels(self._kernels)
        rows = list(batches)
        return unit(np.concatenate(rows)) if rows else np.empty((0, self.dim), np.float32)
