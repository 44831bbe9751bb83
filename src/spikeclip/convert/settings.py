"""What a person chooses about a conversion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from spikeclip.config.model import Levels
from spikeclip.config.ranges import Range, check_ranges
from spikeclip.errors import unknown

_NEURONS = ("ilif", "quant_relu", "relu")


@dataclass(frozen=True)
class ConvertSettings:
    """Raises `InputError` for a number outside its range."""

    neuron: Literal["ilif", "quant_relu", "relu"] = "ilif"
    """ilif: integer spikes; quant_relu: the quantised twin; relu: the ordinary network itself, nothing is fitted."""
    D: Annotated[int, Range(2, 16)] = 8
    """Integer levels of a neuron."""
    finer: bool = True
    """Twice the levels where they bring most, by the network's data file."""
    first_D: tuple[Levels, ...] = ()
    """Levels of the first neurons in their order, if others."""
    places: dict[str, Levels] = field(default_factory=dict)
    """Levels of the neurons whose names fit a pattern, such as "blocks.*.spike"; the last one that fits counts."""
    steps: Annotated[int, Range(0, 100_000)] = 100
    """Steps of Adam on each part; 0 leaves it at the chosen ranges."""
    passes: Annotated[int, Range(1, 100)] = 2
    """Times that all parts are fitted; from the second on to other crops of the pictures, in steps half as long."""
    distil_steps: Annotated[int, Range(0, 1_000_000)] = 0
    """Steps of Adam on the whole network afterwards."""
    batch_size: Annotated[int, Range(1, 4096)] = 16
    """Pictures a step."""
    rate: Annotated[float, Range(0, 1, low_open=True)] = 4e-3
    """Largest step of a weight or bias, in root mean squares of its tensor, and of the logarithm of a range."""
    distil_rate: Annotated[float, Range(0, 1, low_open=True)] = 3e-4
    """The same of the whole network's steps."""
    mean_spikes: Annotated[float, Range(0, 255, low_open=True)] | None = None
    """Mean spikes per neuron above which the steps of the whole network are penalised; None for any."""
    seed: Annotated[int, Range(0, 2**31)] = 0
    """Of the order of pictures and their crops."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.neuron not in _NEURONS:
            raise unknown("neuron of a conversion", self.neuron, _NEURONS)
