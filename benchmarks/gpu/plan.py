"""The list of all measurements."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.gpu import agreement, command, neuron, steps
from benchmarks.gpu.measure import Measurement


def measurements(only: Sequence[str] = ()) -> dict[str, Measurement]:
    """Return all measurements by name, or those with one of `only` in it.

    First those that targets are about; what needs a process of its own stands together.
    """
    parts = (agreement, command, neuron, steps)
    first = {name: found for part in parts for name, found in part.FIRST.items()}
    ordered = sorted(first.items(), key=lambda item: sorted(item[1].environment.items()))
    rest = {name: found for part in parts for name, found in part.REST.items()}
    return {
        name: found
        for name, found in {**dict(ordered), **rest}.items()
        if not only or any(text in name for text in only)
    }
