"""What a graph does for one input, as counts: products, and operations on single elements. No rates, no joules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.ops import Graph, Op
from spikeclip.graph.shapes import Shape, shapes


@dataclass(frozen=True)
class Product:
    """A convolution, a linear map, or one of the two products of attention; all counts are of one time step."""

    op: str
    source: str | None
    """The neuron whose output drives it; None where the input is the picture or the residual stream."""
    macs: int
    """Multiply-accumulates of a dense run, padding included."""
    fan_out: int
    """Accumulates of one input spike, at most: ceil(k / stride)^2 C_out, or C_out."""
    taps: int
    """Weights that one input spike reads: k^2 C_out, or C_out. Depthwise, C_out is 1."""
    weights: int
    """Stored weights; in attention the numbers of the other operand."""
    inputs: int
    outputs: int
    bias: bool
    steps: int
    """Time steps it runs in; 1 where the input does not change."""
    stem: bool
    """Whether it reads the picture itself."""
    populations: int = 1
    """Neurons of each input: 2 where ON and OFF neurons drive it."""
    stored: bool = True
    """Whether its sums outlast their making; False where neurons of one time step alone read them: no membrane."""


ElementKind = Literal["neuron", "gain", "add", "pool", "readout", "embedding"]


@dataclass(frozen=True)
class Elements:
    """An operation on single numbers; all counts are of one time step."""

    op: str
    kind: ElementKind
    neuron: str
    """Of a neuron: lif, ilif or relu."""
    levels: int
    """Of a neuron: comparisons, D of I-LIF."""
    multiplies: int
    adds: int
    reads: int
    stored: int
    """Numbers in the memory that it reads."""
    outputs: int
    steps: int
    populations: int = 1
    """Of signed neurons: 2, an ON and an OFF neuron for each output."""


Count = Product | Elements


def counts(graph: Graph, input_shape: Shape | None = None, attention_order: str = "cheaper") -> list[Count]:
    """Count what a graph does for one input, operation by operation.

    input_shape: of the input, see `graph.shapes`; for a text its length (L,), by default the full length.
    attention_order: `written` is (q k^T) v; `cheaper` takes q (k^T v) where that is fewer multiplications. Raises
    `InputError` for an operation without a count and for a shape that the graph does not read.
    """
    shape_of = shapes(graph, input_shape)
    found: list[Count] = []
    for op in graph.ops:
        if isinstance(op, (ops.Conv, ops.Depthwise, ops.Linear)):
            found.append(_product(graph, op, shape_of))
        elif isinstance(op, ops.Attention):
            found += _attention(graph, op, shape_of, attention_order)
        elif not isinstance(op, (ops.Image, ops.Tokens, ops.Mask, ops.Reshape)):
            found.append(_elements(op, shape_of))
    return found


def driving_neuron(graph: Graph, name: str) -> ops.Neuron | None:
    """Return the neuron whose output `name` holds, whatever its shape there; None where it holds another value."""
    op = graph[name]
    while isinstance(op, ops.Reshape):
        op = graph[op.inputs[0]]
    return op if isinstance(op, ops.Neuron) else None


def _product(graph: Graph, op: ops.Conv | ops.Depthwise | ops.Linear, shape_of: dict[str, Shape]) -> Product:
    source = driving_neuron(graph, op.inputs[0])
    T, *inner = shape_of[op.inputs[0]]
    outputs = math.prod(shape_of[op.name][1:])
    if isinstance(op, ops.Linear):
        weight, bias_O = op.weight_IO, op.bias_O
        C_in, C_out = weight.shape
        fan_out = taps = C_out
        macs = outputs * C_in
    else:
        conv = isinstance(op, ops.Conv)
        weight, bias_O = (op.weight_RSIO, op.bias_O) if conv else (op.weight_RSC, op.bias_C)
        rows, columns, C_in, C_out = weight.shape if conv else (*weight.shape[:2], 1, 1)
        fan_out = math.ceil(rows / op.stride) * math.ceil(columns / op.stride) * C_out
        taps, macs = rows * columns * C_out, outputs * rows * columns * C_in
    return Product(
        op.name,
        source.name if source else None,
        macs,
        fan_out,
        taps,
        weight.size,
        math.prod(inner),
        outputs,
        bool(bias_O.any()),
        T,
        isinstance(graph[op.inputs[0]], ops.Image),
        2 if source is not None and source.signed else 1,
        _is_stored(graph, op.name),
    )


def _is_stored(graph: Graph, name: str) -> bool:
    """Whether a value outlasts its making: a membrane does, the input of a neuron without one does not."""
    readers = graph.readers(name)
    return not readers or any(
        _is_stored(graph, op.name)
        if isinstance(op, (ops.Reshape, ops.Gain))
        else not isinstance(op, ops.Neuron) or op.T > 1 or op.substeps > 1
        for op in readers
    )


def _attention(graph: Graph, op: ops.Attention, shape_of: dict[str, Shape], order: str) -> list[Count]:
    """Both products of all heads. An event of one operand adds a row of the other, which is its weights.

    (q k^T) v: a spike of q adds a column of k, one number for each token; a spike of v adds a column of the
    scores. q (k^T v): a spike of k adds the row of v of its token and head; a spike of q a row of k^T v.
    """
    q, k, v = (driving_neuron(graph, name) for name in op.inputs[:3])
    T, N, C = shape_of[op.inputs[0]]
    d = C // op.num_heads
    cheap = order == "cheaper" and d < N
    inner, between = (d, C * d) if cheap else (N, op.num_heads * N * N)
    first, second = (k, q) if cheap else (q, v)

    def product(name: str, neuron: ops.Neuron | None, weights: int, outputs: int, stored: bool) -> Product:
        source, macs = neuron.name if neuron else None, N * C * inner
        counted = (macs, inner, inner, weights, N * C, outputs, False, T, False)
        return Product(f"{op.name}.{name}", source, *counted, stored=stored)

    names, stored = ("kv", "q(kv)") if cheap else ("qk", "(qk)v"), _is_stored(graph, op.name)
    return [
        product(names[0], first, N * C, between, True),
        product(names[1], second, between, N * C, stored),
    ]


def _elements(op: Op, shape_of: dict[str, Shape]) -> Elements:
    T, *inner = shape_of[op.name]
    outputs = math.prod(inner)

    def elements(
        kind: ElementKind,
        multiplies: int = 0,
        adds: int = 0,
        reads: int = 0,
        stored: int = 0,
        steps: int = T,
    ) -> Elements:
        return Elements(op.name, kind, "", 1, multiplies, adds, reads, stored or outputs, outputs, steps)

    T_in, *space = shape_of[op.inputs[0]]
    read = math.prod(space)
    if isinstance(op, ops.Neuron):
        levels = op.D if op.kind == "ilif" else 1
        populations = 2 if op.signed else 1
        return Elements(op.name, "neuron", op.kind, levels, 0, 0, 0, 0, outputs, op.T, populations)
    if isinstance(op, ops.Gain):
        return elements("gain", multiplies=outputs, reads=outputs)
    if isinstance(op, ops.Add):
        return elements("add", adds=outputs, reads=2 * outputs)
    if isinstance(op, ops.MaxPool):
        return elements("pool", adds=(op.size**2 - 1) * outputs, reads=op.size**2 * outputs)
    if isinstance(op, ops.Max):
        return elements("pool", adds=read - outputs, reads=read)
    if isinstance(op, ops.Mean):
        return elements("readout", multiplies=outputs, adds=read - outputs, reads=read)
    if isinstance(op, ops.Readout):  # a step of time is one multiply-accumulate
        return elements("readout", multiplies=outputs, adds=outputs, reads=outputs, steps=T_in)
    if isinstance(op, ops.Scale):
        return elements("readout", multiplies=outputs, reads=outputs)
    if isinstance(op, ops.Embedding):
        return elements("embedding", adds=outputs, reads=2 * outputs, stored=op.table_VC.size)
    raise InputError(f"{op.name}: a ledger has no count for a {type(op).__name__}")
