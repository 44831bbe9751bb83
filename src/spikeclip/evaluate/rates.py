"""How often the neurons of an image tower fire, averaged over a set of pictures batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikeclip.data.pictures import Pictures
from spikeclip.errors import InputError
from spikeclip.evaluate.zero_shot import embed_pictures
from spikeclip.model import SpikeCLIP
from spikeclip.neurons import density, mean_spikes, record
from spikeclip.neurons.module import Neuron, ReLU


class RateMeter:
    """Adds up spikes over batches, so that a small last batch weighs no more than its pictures."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Count what the neurons of `model` emit inside the `with` block, which runs the model once."""
        with record(model, _count) as batch:
            yield
        for name, counts_3 in batch.items():
            self._sums[name] = self._sums.get(name, 0) + counts_3

    def summary(self) -> dict[str, Any]:
        """Return the averages so far; see `mean_rates`."""
        sums = {name: counts_3.tolist() for name, counts_3 in self._sums.items()}
        spikes, active, places = (sum(counts[i] for counts in sums.values()) for i in range(3))
        return {
            "mean_rate": spikes / places if places else math.nan,
            "mean_density": active / places if places else math.nan,
            "rates": {name: counts[0] / counts[2] for name, counts in sums.items()},
            "densities": {name: counts[1] / counts[2] for name, counts in sums.items()},
        }


def mean_rates(model: SpikeCLIP, pictures: Pictures | Tensor, batch_size: int = 256) -> dict[str, Any]:
    """Return how often the neurons of the image tower fire, averaged over pictures and time steps.

    pictures: a split, or (N, H, W, 3) uint8. The result holds `rates`, mean spikes per neuron and time step
    by layer (an integer activation n of I-LIF counts n); `densities`, the share of activations that are not
    zero; and `mean_rate` and `mean_density` over all neurons, so a layer counts as often as it has neurons.
    The ReLU twin does not spike: its rates are NaN and its densities are not. Raises `InputError` for
    pictures of another size than the model's, and for none.
    """
    meter = RateMeter()
    if not len(pictures):
        raise InputError("no pictures to measure firing rates on")
    embed_pictures(model, pictures, batch_size, watch=meter.watch)
    return meter.summary()


def _count(neuron: Neuron, s_TX: Tensor) -> Tensor:
    """Spikes, activations that are not zero, and places, float64: what adds up over batches."""
    spikes = s_TX.new_tensor(math.nan) if isinstance(neuron, ReLU) else mean_spikes(neuron, s_TX)
    places = s_TX.numel()
    shares_2 = torch.stack([spikes.detach().double(), density(neuron, s_TX).double()])
    return torch.cat([shares_2 * places, shares_2.new_tensor([places])]).cpu()
