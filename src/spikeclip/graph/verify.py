"""Does the network spike? What every product reads, and integer and signed spikes against binary ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.execute import execute, run_op
from spikeclip.graph.ops import Graph, Op
from spikeclip.graph.substeps import to_substeps
from spikeclip.progress import tracked

EPS = float(np.finfo(np.float32).eps)


@dataclass
class Operand:
    """One operand of a product (a convolution, a linear map or attention): spikes or a real value."""

    op: str
    reads: str
    """Name of the value it reads."""
    kind: Literal["binary", "integer", "real"]
    """What it is, as the operations of the graph show."""
    D: int | None
    """Highest level of the neuron that it comes from; None for real values."""
    signed: bool
    """Whether OFF neurons count as negative: levels from -D."""
    exception: str
    """Why a real value is allowed here: stem or readout; empty for spikes and for a real value that is not allowed."""
    seen: tuple[float, float] | None = None
    """Lowest and highest value on the pictures."""
    whole: bool | None = None
    """Whether every value on the pictures was a whole number."""

    @property
    def sound(self) -> bool:
        """Whether it is spikes, by the graph and by the values seen, or an allowed exception."""
        if self.kind == "real":
            return bool(self.exception)
        if self.seen is None or self.D is None:
            return True
        return bool(self.whole) and self.seen[0] >= (-self.D if self.signed else 0) and self.seen[1] <= self.D


@dataclass(frozen=True)
class Substeps:
    """I-LIF against D binary sub-steps on the same inputs, signed neurons against two binary populations."""

    neurons: int
    """Activations compared; in each the spikes of the sub-steps add up to the integer, or `different` counts it.

    Of a signed one, those of OFF neurons count as negative, and only one of the two may fire."""
    different: int
    not_binary: int
    """Sub-step spikes that are neither 0 nor 1."""
    rounding: float
    """Largest difference of a product, in units of float32's eps times its largest output."""
    output: float
    """Largest difference of the embeddings of two separate runs, relative to the largest number in them."""

    @property
    def equal(self) -> bool:
        return not self.different and not self.not_binary


def verify(graph: Graph, inputs: np.ndarray, *, progress: str = "") -> tuple[list[Operand], Substeps | None]:
    """Check a graph and what it computes on inputs as `execute` takes them.

    progress: title of a bar for whoever sits at a terminal; empty for no bar.

    Returns what every product reads and, for a network with I-LIF or signed neurons, how it compares with its binary
    sub-steps (else None). Layer by layer both get the same input, so a layer's equality does not depend on the rounding
    of the one before. Raises `InputError` for no inputs.
    """
    values: dict[str, np.ndarray] = {}

    def watch(op: Op, value: np.ndarray) -> None:
        values[op.name] = value

    if not len(inputs):
        raise InputError("no pictures to verify on")
    output = execute(graph, inputs, watch)
    found = operands(graph)
    for operand in found:
        read = values[operand.reads]
        operand.seen = float(read.min()), float(read.max())
        operand.whole = bool((read == np.round(read)).all())
    neurons = [op for op in graph.ops if isinstance(op, ops.Neuron)]
    if not any(op.kind == "ilif" or (op.signed and op.kind == "lif") for op in neurons):
        return found, None
    return found, _compare(graph, inputs, values, output, progress)


def operands(graph: Graph) -> list[Operand]:
    """Return every operand of a convolution, linear map or attention, as the operations of the graph show it."""
    found = []
    for op in graph.ops:
        if isinstance(op, (ops.Conv, ops.Depthwise, ops.Linear, ops.Attention)):
            names = op.inputs[:3] if isinstance(op, ops.Attention) else op.inputs[:1]
            found += [_operand(graph, op, name) for name in names]
    return found


def _operand(graph: Graph, op: Op, name: str) -> Operand:
    source = graph[name]
    while isinstance(source, (ops.Reshape, ops.MaxPool)):  # they move spikes, and choose among them
        source = graph[source.inputs[0]]
    if isinstance(source, ops.Neuron) and source.kind != "relu":
        D = source.D if source.kind == "ilif" and source.substeps == 1 else 1
        return Operand(op.name, name, "binary" if D == 1 else "integer", D, source.signed, "")
    exception = "stem" if isinstance(source, ops.Image) else "readout" if _is_readout(graph, op) else ""
    return Operand(op.name, name, "real", None, False, exception)


def _is_readout(graph: Graph, op: Op) -> bool:
    """Whether nothing that spikes follows: the linear map that ends the tower."""
    behind = {op.name}
    for later in graph.ops:
        if behind.intersection(later.inputs):
            behind.add(later.name)
    return isinstance(op, ops.Linear) and not any(isinstance(graph[name], ops.Neuron) for name in behind)


def _compare(
    graph: Graph,
    inputs: np.ndarray,
    values: dict[str, np.ndarray],
    output: np.ndarray,
    progress: str,
) -> Substeps:
    binary = to_substeps(graph)
    split: dict[str, np.ndarray] = {}  # values of the binary network, given the integer network's currents
    neurons = different = not_binary = 0
    rounding = 0.0
    for op in tracked(binary.ops, progress, shown=bool(progress)):
        if isinstance(op, ops.Neuron):
            source = op.inputs[0]
            split[op.name] = run_op(op, values[source] if source in values else split[source])
            n = values[op.name]
            summed = split[op.name].reshape(len(n), op.substeps, *split[op.name].shape[1:]).sum(1)
            neurons += n.size
            if summed.shape == n.shape:
                different += int(np.count_nonzero(summed != n))
            else:
                on, off = np.split(summed, 2, -1)
                different += int(np.count_nonzero((on - off != n) | ((on > 0) & (off > 0))))
            not_binary += int(np.count_nonzero((split[op.name] != 0) & (split[op.name] != 1)))
            continue
        result = run_op(op, *([split[name] for name in op.inputs] or [inputs[None]]))
        if isinstance(op, (ops.Conv, ops.Depthwise, ops.Linear, ops.Attention, ops.Scale, ops.Max)):
            whole = values[op.name]
            scale = max(float(np.abs(whole).max()), float(np.finfo(np.float32).tiny))
            rounding = max(rounding, float(np.abs(result - whole).max()) / scale / EPS)
            result = whole  # the next layer gets the same input in both
        split[op.name] = result
    difference = np.abs(execute(binary, inputs) - output).max() / np.abs(output).max()
    return Substeps(neurons, different, not_binary, rounding, float(difference))
