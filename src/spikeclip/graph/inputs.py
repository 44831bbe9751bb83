"""Around a run of a graph: pictures as it reads them, embeddings of unit length and of classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikeclip.data.images import Images
from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.ops import Graph


def picture_batches(
    graph: Graph, images_NHWC: np.ndarray | Images, batch_size: int = 64
) -> Iterator[np.ndarray]:
    """Yield pictures (N, H, W, 3), or recordings, uint8, as the graph reads them: batches of normalised float32.

    Raises `InputError` for another number of channels.
    """
    first = graph.ops[0]
    assert isinstance(first, ops.Image)
    if images_NHWC.shape[-1] != len(first.mean):
        raise InputError(f"expected pictures of {len(first.mean)} channels, got {images_NHWC.shape[-1]}")
    mean, std = np.array(first.mean, np.float32), np.array(first.std, np.float32)
    for i in range(0, len(images_NHWC), batch_size):
        yield (images_NHWC[i : i + batch_size] / np.float32(255) - mean) / std
