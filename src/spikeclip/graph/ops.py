"""The operations a network is lowered to.

A value has the shape (T, B, ...): time first, then the batch, channels last. A value that does not change over
time has T = 1 and is broadcast. Spikes are integers: 0 or 1 of a LIF neuron, 0 ... D of an I-LIF neuron, whose
division by D is folded into the weights that read them. BatchNorm is folded too.

An operation says itself what it can be, and `check` reads it: a number's range is in its type, the axes of an array
are the letters behind its name (`weight_IO`), and `reads` has the axes of the inputs. The same letter is the same size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Generic, Literal, NamedTuple, TypeVar, cast

import numpy as np

from spikeclip.config.model import ImageFormat
from spikeclip.config.ranges import Range

LARGEST = 1e6
"""Size of the largest number in an array: far above any trained weight, and no sum of them leaves float32."""


Count = Annotated[int, Range(1, 65_535)]
Level = Annotated[int, Range(1, 255)]
Side = Annotated[int, Range(1, 1024)]
Padding = Annotated[int, Range(0, 65_535)]
Token = Annotated[int, Range(0, 2**31 - 1)]
Real = Annotated[float, Range(-LARGEST, LARGEST)]
Positive = Annotated[float, Range(1 / LARGEST, LARGEST)]

Kind = Literal["values", "token ids", "a mask"]


class Read(NamedTuple):
    """One input of an operation."""

    axes: str
    """A letter for each axis behind time and batch; * stands for any before the rest."""
    kind: Kind = "values"
    optional: bool = False


@dataclass(frozen=True, eq=False)
class Op:
    name: str
    """Path of the module it came from; unique in a graph, and the name of its output."""
    inputs: tuple[str, ...] = ()
    """Names of the operations it reads."""
    reads: ClassVar[tuple[Read, ...]] = ()
    """What each of `inputs` has to be."""
    gives: ClassVar[Kind] = "values"
    """What its output is."""


@dataclass(frozen=True, eq=False)
class Image(Op):
    """The input: normalised pictures (1, B, H, W, C), or event recordings (1, B, H, W, T, 2) -> (T, B, H, W, 2)."""

    shape: tuple[Side, Side, Count] = (32, 32, 3)
    mean: tuple[Real, ...] = (0.0, 0.0, 0.0)
    std: tuple[Positive, ...] = (1.0, 1.0, 1.0)
    event_frames: Count | None = None
    """Frames of a recording; None for pictures. A recording of one frame has no axis of time."""

    @property
    def format(self) -> ImageFormat:
        """The pictures as data holds them, before normalisation."""
        return ImageFormat(self.shape[0], self.event_frames)

    @property
    def constant(self) -> bool:
        """Whether one frame is shown at every time step, as a picture is."""
        return self.event_frames in (None, 1)


@dataclass(frozen=True, eq=False)
class Tokens(Op):
    """The input: token ids (1, B, L). `exact` pads with the end token, or cuts, to exactly `length` of them."""

    gives = "token ids"
    length: Count = 77
    eos_id: Token = 0
    exact: bool = False


@dataclass(frozen=True, eq=False)
class Mask(Op):
    """Token ids (1, B, L) -> True up to and including the first end token."""

    reads = (Read("L", "token ids"),)
    gives = "a mask"
    eos_id: Token = 0


@dataclass(frozen=True, eq=False)
class Embedding(Op):
    """Token ids (1, B, L) -> table[id] + positions[place], (1, B, L, C)."""

    reads = (Read("N", "token ids"),)
    table_VC: np.ndarray = field(default_factory=lambda: np.zeros((1, 1), np.float32))
    positions_LC: np.ndarray = field(default_factory=lambda: np.zeros((1, 1), np.float32))


@dataclass(frozen=True, eq=False)
class Linear(Op):
    """Weights (inputs, outputs) and bias on the last axis. `substeps`: see `to_substeps`."""

    reads = (Read("*I"),)
    weight_IO: np.ndarray = field(default_factory=lambda: np.zeros((1, 1), np.float32))
    bias_O: np.ndarray = field(default_factory=lambda: np.zeros(1, np.float32))
    substeps: Level = 1


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """Convolution on (T, B, H, W, C): weights (rows, columns, inputs, outputs), zero padding.

    `padding_end` is the padding behind the last row and column, where it is not that before the first.
    """

    reads = (Read("HWI"),)
    weight_RSIO: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 1, 1), np.float32))
    bias_O: np.ndarray = field(default_factory=lambda: np.zeros(1, np.float32))
    padding: Padding = 0
    substeps: Level = 1
    stride: Count = 1
    padding_end: Padding | None = None


@dataclass(frozen=True, eq=False)
class Depthwise(Op):
    """Convolution of every channel alone, with weights (rows, columns, channels); else as `Conv`."""

    reads = (Read("HWC"),)
    weight_RSC: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 1), np.float32))
    bias_C: np.ndarray = field(default_factory=lambda: np.zeros(1, np.float32))
    padding: Padding = 0
    substeps: Level = 1
    stride: Count = 1
    padding_end: Padding | None = None


@dataclass(frozen=True, eq=False)
class MaxPool(Op):
    """Largest value of windows of `size` x `size` positions; what lies outside does not count."""

    reads = (Read("HWC"),)
    size: Count = 2
    stride: Count = 2
    padding: Padding = 0


@dataclass(frozen=True, eq=False)
class Neuron(Op):
    """Currents -> activations, with the equations of `spikeclip.neurons.functional`.

    lif: spikes 0 or 1 over T steps. ilif: integers 0 ... D over T steps; with `substeps` > 1 (= D) each step
    becomes D steps of 0 or 1. relu: max(x, 0), at most `ceiling`. signed: the spikes of an ON neuron, driven by x, less
    those of an OFF neuron, driven by -x; `to_substeps` writes them as two channels.
    """

    reads = (Read("*"),)
    kind: Literal["lif", "ilif", "relu"] = "ilif"
    T: Count = 1
    tau: Annotated[float, Range(1, LARGEST)] = 2.0
    v_threshold: Real = 1.0
    v_reset: Real | None = 0.0
    D: Level = 1
    range: Positive = 1.0
    substeps: Level = 1
    signed: bool = False
    ceiling: Positive | None = None


@dataclass(frozen=True, eq=False)
class Gain(Op):
    """The value times one number for each channel: the range of neurons that differs between channels."""

    reads = (Read("*C"),)
    factor_C: np.ndarray = field(default_factory=lambda: np.ones(1, np.float32))


@dataclass(frozen=True, eq=False)
class OnOff(Op):
    """x and -x, one behind the other as twice as many channels: the currents of ON and OFF neurons."""

    reads = (Read("*"),)


@dataclass(frozen=True, eq=False)
class Attention(Op):
    """Spikes q, k, v (T, B, N, C) and, optionally, a mask -> scale (q k^T) v by heads, without softmax.

    With `substeps` the product counts the coincidences of every pair of sub-steps of one time step.
    """

    reads = (Read("NC"), Read("NC"), Read("NC"), Read("N", "a mask", optional=True))
    num_heads: Count = 1
    scale: Real = 1.0
    substeps: Level = 1


@dataclass(frozen=True, eq=False)
class Add(Op):
    """The sum of two values."""

    reads = (Read("*"), Read("*"))


@dataclass(frozen=True, eq=False)
class Scale(Op):
    """The value times a constant: integer spikes as the start of a real-valued stream."""

    reads = (Read("*"),)
    factor: Real = 1.0
    substeps: Level = 1


@dataclass(frozen=True, eq=False)
class Reshape(Op):
    """Another shape of the axes behind time and batch; -1 stands for what is left."""

    reads = (Read("*"),)
    shape: tuple[Annotated[int, Range(-1, 2**31 - 1)], ...] = (-1,)


@dataclass(frozen=True, eq=False)
class Mean(Op):
    """Mean over tokens, (T, B, N, C) -> (T, B, C); with a mask as second input, over its tokens only."""

    reads = (Read("NC"), Read("N", "a mask", optional=True))


@dataclass(frozen=True, eq=False)
class Max(Op):
    """Largest value over tokens, (T, B, N, C) -> (T, B, C)."""

    reads = (Read("NC"),)
    substeps: Level = 1


@dataclass(frozen=True, eq=False)
class Readout(Op):
    """Weighted sum over time, (T, B, C) -> (1, B, C)."""

    reads = (Read("C"),)
    weights_T: np.ndarray = field(default_factory=lambda: np.ones(1, np.float32))


def axes(field_name: str) -> str:
    """Return the letters of an array's axes: R, S, I, O of `weight_RSIO`."""
    return field_name.rpartition("_")[2]


OPS: dict[str, type[Op]] = {cls.__name__: cls for cls in Op.__subclasses__()}


InputOp = TypeVar("InputOp", bound=Image | Tokens, covariant=True)


@dataclass(frozen=True, eq=False)
class Graph(Generic[InputOp]):
    """Operations in an order in which every one follows its inputs; the first is the input, the last the output.

    `Graph[Image]` reads pictures or recordings, `Graph[Tokens]` reads texts.
    """

    ops: list[Op]

    @property
    def input(self) -> InputOp:
        """The first operation, which says what the graph reads."""
        return cast(InputOp, self.ops[0])

    def __getitem__(self, name: str) -> Op:
        return next(op for op in self.ops if op.name == name)

    def readers(self, name: str) -> list[Op]:
        """Return the operations that read `name`."""
        return [op for op in self.ops if name in op.inputs]
