"""How often neurons fire, added up batch by batch."""

from __future__ import annotations

import math
from typing import Any


class SpikeCounts:
    """Adds up what each layer of neurons emits, so that a small last batch weighs no more than its pictures."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float, float]] = {}

    def add(self, layer: str, spikes: float, active: float, places: float) -> None:
        """Add a run of a layer.

        spikes: their number, in which an integer activation n counts n; NaN for a ReLU, which does not spike.
        active: activations that are not zero. places: neurons times time steps times pictures.
        """
        before = self._sums.get(layer, (0.0, 0.0, 0.0))
        self._sums[layer] = (before[0] + spikes, before[1] + active, before[2] + places)

    def summary(self) -> dict[str, Any] | None:
        """Return the averages so far, None where nothing was counted.

        `rates`: mean spikes per neuron and time step by layer; `densities`: the share of activations that are not zero;
        `mean_rate` and `mean_density` over all neurons, so a layer counts as often as it has neurons.
        """
        if not self._sums:
            return None
        spikes, active, places = (sum(counts[i] for counts in self._sums.values()) for i in range(3))
        return {
            "mean_rate": spikes / places if places else math.nan,
            "mean_density": active / places if places else math.nan,
            "rates": {name: counts[0] / counts[2] for name, counts in self._sums.items()},
            "densities": {name: counts[1] / counts[2] for name, counts in self._sums.items()},
        }
