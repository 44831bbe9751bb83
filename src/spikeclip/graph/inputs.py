"""Pictures and token ids as a graph reads them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikeclip.data.images import Images
from spikeclip.errors import InputError
from spikeclip.graph.ops import Embedding, Graph, Image, Tokens


def picture_batches(
    graph: Graph[Image], images_NHWC: np.ndarray | Images, batch_size: int = 64
) -> Iterator[np.ndarray]:
    """Yield pictures (N, H, W, 3), or recordings, uint8, as the graph reads them: batches of normalised float32.

    Raises `InputError` for another number of channels, and for pixels that are not uint8.
    """
    check_pixels(graph.input, images_NHWC)
    for i in range(0, len(images_NHWC), batch_size):
        yield normalized(graph.input, images_NHWC[i : i + batch_size])


def check_pixels(op: Image, images_NHWC: np.ndarray | Images) -> None:
    """Raise `InputError` for another number of channels than the graph reads, and for pixels that are not uint8."""
    channels = len(op.mean)
    if images_NHWC.shape[-1] != channels:
        raise InputError(f"expected pictures of {channels} channels, got {images_NHWC.shape[-1]}")
    if images_NHWC.dtype != np.uint8:
        raise InputError(f"expected pictures of uint8, 0 to 255, got {images_NHWC.dtype}")


def normalized(op: Image, images_NHWC: np.ndarray) -> np.ndarray:
    """Return pictures of uint8 as the graph reads them, float32."""
    mean, std = np.array(op.mean, np.float32), np.array(op.std, np.float32)
    return (images_NHWC / np.float32(255) - mean) / std


def random_tokens(graph: Graph[Tokens], count: int) -> np.ndarray:
    """Return token ids (count, length) of texts that mean nothing, for a model without a tokenizer; seeded."""
    vocabulary = min(len(op.table_VC) for op in graph.ops if isinstance(op, Embedding))
    ids_NL = np.random.default_rng(0).integers(vocabulary, size=(count, graph.input.length))
    ids_NL[:, -1] = graph.input.eos_id
    return ids_NL
