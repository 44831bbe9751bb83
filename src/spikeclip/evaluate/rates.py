"""How often the neurons of an image tower fire on a set of pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeclip.data.pictures import Pictures
from spikeclip.encode.embed import embed_pictures
from spikeclip.encode.encoder import Encoder
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.errors import InputError


def mean_rates(
    encoder: Encoder, pictures: Pictures | np.ndarray, batch_size: int = 256
) -> dict[str, Any] | None:
    """Return how often the neurons of the image tower fire, averaged over pictures and time steps.

    pictures: a split, or (N, H, W, 3) uint8. See `SpikeCounts.summary`; None for an encoder that has no such neurons.
    The ReLU twin does not spike: its rates are NaN and its densities are not. Raises `InputError` for pictures of
    another size than the encoder's, and for none.
    """
    if not len(pictures):
        raise InputError("no pictures to measure firing rates on")
    spikes = SpikeCounts()
    embed_pictures(encoder, pictures, batch_size, spikes=spikes)
    return spikes.summary()
