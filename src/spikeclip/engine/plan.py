"""From a graph to the engine's steps: which operations one pass over the positions does together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikeclip.engine.neuron import NEVER
from spikeclip.engine.vector import LIST_LANES, empty
from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.ops import Graph, Op

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
    result: str | None
    """Name under which the sum is kept; None where only the neuron reads it."""
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


Step = Synapses | Dense | Fire | Attend | Plain


def plan(graph: Graph, precision: str) -> list[Step]:
    """Group the operations of a graph into steps. Raises `InputError` for a network that does not spike."""
    neurons = [op for op in graph.ops if isinstance(op, ops.Neuron)]
    for neuron in neurons:
        _check_neuron(neuron)
    spiking = {neuron.name for neuron in neurons}
    moving = any(isinstance(op, ops.Image) and not op.constant for op in graph.ops)
    alias: dict[str, str] = {}  # of operations that only take positions for tokens
    tokens: set[str] = set()  # values whose positions are tokens, whatever their shape is here
    done: set[str] = set()
    steps: list[Step] = []

    def source(name: str) -> str:
        return alias.get(name, name)

    def only_neuron(op: Op) -> ops.Neuron | None:
        readers = [r for r in _readers(graph, op.name) if isinstance(r, ops.Neuron)]
        return readers[0] if len(readers) == 1 else None

    for op in graph.ops:
        if op.name in done:
            continue
        first = source(op.inputs[0]) if op.inputs else ""
        if isinstance(op, ops.Conv) and op.stride != 1:
            raise InputError(f"{op.name}: the engine runs convolutions of stride 1, this one has {op.stride}")
        if isinstance(op, ops.Neuron):
            pool = next((o for o in graph.ops if o.name == first and isinstance(o, ops.MaxPool)), None)
            window = _window(pool) if pool else NO_POOL
            steps.append(Fire(op, source(pool.inputs[0]) if pool else first, window))
        elif isinstance(op, (ops.Conv, ops.Linear)) and first in spiking:
            target, stream, in_place, window = op, None, False, NO_POOL
            readers = _readers(graph, op.name)
            if len(readers) == 1 and isinstance(readers[0], ops.Add):
                target = readers[0]
                (before,) = (name for name in target.inputs if name != op.name)
                stream = source(before)
                in_place = _readers(graph, stream)[-1] is target
                if before in tokens:
                    tokens.add(target.name)
                done.add(target.name)
            elif len(readers) == 1 and isinstance(pool := readers[0], ops.MaxPool) and only_neuron(pool):
                target, window = pool, _window(pool)
                done.add(target.name)
            neuron = only_neuron(target)
            others = [r for r in _readers(graph, target.name) if r is not neuron]
            if neuron is not None:
                done.add(neuron.name)
            kept = target.name if others or target is graph.ops[-1] else None
            plane = _plane(graph, op)
            steps.append(_synapses(op, first, stream, in_place, kept, neuron, window, plane, precision))
        elif isinstance(op, (ops.Conv, ops.Linear)):
            weight_IN, bias_N = _fill(_rows(op)), _fill(op.bias_O)
            constant = isinstance(op, ops.Conv) and not moving
            steps.append(Dense(op, first, _filter(op), _plane(graph, op), weight_IN, bias_N, constant))
        elif isinstance(op, ops.Attention):
            neuron = only_neuron(op)
            if neuron is None or len(_readers(graph, op.name)) > 1:
                raise InputError(f"{op.name}: the engine needs one neuron behind attention")
            done.add(neuron.name)
            width = _width(graph, op.inputs[0])
            steps.append(Attend(op, neuron, source(op.inputs[3]) if len(op.inputs) > 3 else None, width))
        elif isinstance(op, ops.MaxPool):
            if not all(isinstance(r, ops.Neuron) for r in graph.readers(op.name)):
                raise InputError(f"{op.name}: the engine needs a neuron behind a max-pool")
        elif isinstance(op, ops.Reshape) and op.shape == (-1, _width(graph, op.inputs[0])):
            alias[op.name] = first
            tokens.add(op.name)
        else:
            sources = tuple(source(name) for name in op.inputs)
            steps.append(Plain(op, sources, tuple(name in tokens for name in op.inputs)))
    return steps


def _readers(graph: Graph, name: str) -> list[Op]:
    """Return what reads a value, looking through operations that only rename it."""
    readers = []
    for op in graph.readers(name):
        renames = isinstance(op, ops.Reshape) and op.shape == (-1, _width(graph, name))
        readers += _readers(graph, op.name) if renames else [op]
    return readers


def _width(graph: Graph, name: str) -> int:
    """Return the channels of a value."""
    op = graph[name]
    if isinstance(op, ops.Embedding):
        return op.table_VC.shape[1]
    if isinstance(op, (ops.Conv, ops.Linear)):
        return len(op.bias_O)
    return _width(graph, op.inputs[0])


def _plane(graph: Graph, op: ops.Conv | ops.Linear) -> tuple[int, int]:
    """Return the rows and columns that a convolution reads; a linear map reads one position."""
    return _plane_of(graph, op.inputs[0]) if isinstance(op, ops.Conv) else (1, 1)


def _plane_of(graph: Graph, name: str) -> tuple[int, int]:
    op = graph[name]
    if isinstance(op, ops.Image):
        return op.shape[:2]
    H, W = _plane_of(graph, op.inputs[0])
    if isinstance(op, ops.MaxPool):
        H, W = ((side + 2 * op.padding - op.size) // op.stride + 1 for side in (H, W))
    if isinstance(op, ops.Conv):
        R, S, padding = _filter(op)
        H, W = H + 2 * padding - R + 1, W + 2 * padding - S + 1
    return H, W


def _window(op: ops.MaxPool) -> tuple[int, int, int]:
    if op.padding >= op.size:
        raise InputError(f"{op.name}: windows of size {op.size} with padding {op.padding} may see nothing")
    return op.size, op.stride, op.padding


def _check_neuron(op: ops.Neuron) -> None:
    if op.kind == "relu":
        raise InputError(f"{op.name}: the engine runs spiking networks; this one has ReLU activations")
    if op.substeps > 1:
        raise InputError(
            f"{op.name}: give the engine the graph without sub-steps; its spikes are binary already"
        )


def _synapses(
    op: ops.Conv | ops.Linear,
    source: str,
    stream: str | None,
    in_place: bool,
    result: str | None,
    neuron: ops.Neuron | None,
    window: tuple[int, int, int],
    plane: tuple[int, int],
    precision: str,
) -> Synapses:
    weight_IO = _rows(op)
    if len(weight_IO) > np.iinfo(np.uint16).max:
        raise InputError(f"{op.name}: {len(weight_IO)} weight rows, but a list of spikes can name 65,535")
    outputs = len(op.bias_O)
    scale_O = np.ones(outputs, np.float32)
    if precision == "int8":
        weight_IO, scale_O = quantize(weight_IO)
    bias_N = _fill(op.bias_O, NEVER)
    return Synapses(
        op,
        source,
        stream,
        in_place,
        result,
        neuron,
        window,
        _filter(op),
        plane,
        _fill(weight_IO),
        _fill(scale_O),
        bias_N,
        outputs,
    )


def quantize(weight_IO: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights as int8 in -127 ... 127 and the float32 value of 1 in each output channel."""
    scale_O = (np.maximum(np.abs(weight_IO).max(0), np.finfo(np.float32).tiny) / 127).astype(np.float32)
    return np.rint(weight_IO / scale_O).clip(-127, 127).astype(np.int8), scale_O


def _rows(op: ops.Conv | ops.Linear) -> np.ndarray:
    weight = op.weight_RSIO if isinstance(op, ops.Conv) else op.weight_IO
    return weight.reshape(-1, weight.shape[-1])


def _filter(op: ops.Conv | ops.Linear) -> tuple[int, int, int]:
    if isinstance(op, ops.Linear):
        return 1, 1, 0
    return op.weight_RSIO.shape[0], op.weight_RSIO.shape[1], op.padding


def _fill(x: np.ndarray, value: float | np.float32 = 0) -> np.ndarray:
    """Fill up the outputs, the last axis, to whole vectors."""
    width = x.shape[-1]
    filled = empty((*x.shape[:-1], width + -width % LIST_LANES), x.dtype)
    filled[..., :width], filled[..., width:] = x, value
    return filled
