"""What the engine does, step by step: each is one pass over the positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikeclip.graph import ops
from spikeclip.graph.ops import Op

NO_POOL = (1, 1, 0)
"""The window of a neuron that has no max-pool before it."""


@dataclass(eq=False)
class Synapses:
    """A convolution or linear map of spikes, with the residual stream or max-pool, and the neuron behind it."""

    op: ops.Conv | ops.Linear
    source: str
    stream: str | None
    """Real-valued value that the result is added to."""
    in_place: bool
    """Whether the sum may take the stream's place, because nothing reads it later."""
    target: str
    """The last operation before the neuron: this one, the residual add or the max-pool."""
    result: str | None
    """Name under which the sum is kept, `target`; None where only the neuron reads it."""
    neuron: ops.Neuron | None
    window: tuple[int, int, int]
    """Size, stride and padding of the max-pool before the neuron; then nothing else reads the result."""
    filter_: tuple[int, int, int]
    plane: tuple[int, int]
    """Rows and columns that a convolution reads."""
    weight_IN: np.ndarray
    """A row for each filter position and input channel."""
    scale_N: np.ndarray
    bias_N: np.ndarray
    outputs: int

    @property
    def name(self) -> str:
        return self.op.name


@dataclass(eq=False)
class Dense:
    """A layer whose input is real-valued: the first convolution and the readout."""

    op: ops.Conv | ops.Linear
    source: str
    filter_: tuple[int, int, int]
    plane: tuple[int, int]
    weight_IN: np.ndarray
    bias_N: np.ndarray
    constant: bool
    """Whether it reads a picture, which is the same at every time step, and so is what comes of it."""

    @property
    def name(self) -> str:
        return self.op.name


@dataclass(eq=False)
class Filter:
    """A depthwise convolution of spikes; its currents are kept."""

    op: ops.Depthwise
    source: str
    weight_RSC: np.ndarray
    """Whole numbers times `scale_C`, as float32."""
    scale_C: np.ndarray
    space: tuple[int, ...]
    """Rows, columns and channels of the currents."""

    @property
    def name(self) -> str:
        return self.op.name


@dataclass(eq=False)
class Fire:
    """A neuron on currents that are there already, with the max-pool before it."""

    op: ops.Neuron
    source: str
    window: tuple[int, int, int]

    @property
    def name(self) -> str:
        return self.op.name


@dataclass(eq=False)
class Attend:
    """Attention and the neuron that reads it."""

    op: ops.Attention
    neuron: ops.Neuron
    mask: str | None
    width: int

    @property
    def name(self) -> str:
        return self.op.name


@dataclass(eq=False)
class Plain:
    """An operation on real values that `graph.execute` runs: means, readout, embedding."""

    op: Op
    sources: tuple[str, ...]
    tokens: tuple[bool, ...]
    """Whether the positions of each source are to be taken as one axis of tokens."""

    @property
    def name(self) -> str:
        return self.op.name


Step = Synapses | Dense | Filter | Fire | Attend | Plain
