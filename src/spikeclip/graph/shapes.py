"""The shape of every value of a graph, from its operations alone: nothing is computed."""

from __future__ import annotations

import math
from functools import singledispatch

import numpy as np

from spikeclip.errors import InputError
from spikeclip.graph.ops import (
    Add,
    Attention,
    Conv,
    Embedding,
    Graph,
    Image,
    Linear,
    Mask,
    Max,
    MaxPool,
    Mean,
    Neuron,
    Op,
    Readout,
    Reshape,
    Scale,
    Tokens,
)

Shape = tuple[int, ...]


def shapes(graph: Graph, input_shape: Shape | None = None) -> dict[str, Shape]:
    """Return the shape (T, ...) of every operation's output for one input: time first, no batch axis.

    A value that does not change over time has T = 1. The shapes are those that `execute` shows to its `watch`,
    without their second axis.

    input_shape: of one picture (H, W, C), recording (H, W, T, C) or text (L,); by default that of the graph's
    input, for a text its full `length`. Raises `InputError` for a shape that the graph does not read, for an operation
    without a rule, and for shapes that do not fit together.
    """
    found: dict[str, Shape] = {}
    for op in graph.ops:
        if isinstance(op, (Image, Tokens)):
            found[op.name] = _input(op, _full(op) if input_shape is None else input_shape)
        else:
            found[op.name] = output_shape(op, *[found[name] for name in op.inputs])
    return found


def _full(op: Image | Tokens) -> Shape:
    """Return the shape of one input as `execute` takes it."""
    if isinstance(op, Tokens):
        return (op.length,)
    H, W, C = op.shape
    return op.shape if op.constant else (H, W, op.event_frames or 1, C)


def _input(op: Image | Tokens, shape: Shape) -> Shape:
    if isinstance(op, Tokens):
        if len(shape) != 1 or shape[0] < 1 or (shape[0] > op.length and not op.exact):
            raise InputError(f"expected the shape of 1 to {op.length} tokens, (L,), got {shape}")
        return 1, op.length if op.exact else shape[0]
    if shape != _full(op):
        raise InputError(f"expected a picture of shape {_full(op)}, got {shape}")
    H, W, C = op.shape
    return 1 if op.constant else shape[2], H, W, C


@singledispatch
def output_shape(op: Op, *inputs: Shape) -> Shape:
    """Return the shape (T, ...) of an operation's output, from those of its inputs."""
    raise InputError(f"{op.name}: no rule for the shape of a {type(op).__name__}")


@output_shape.register
def _(op: Mask, ids: Shape) -> Shape:
    return ids


@output_shape.register
def _(op: Embedding, ids: Shape) -> Shape:
    return *ids, op.table_VC.shape[1]


@output_shape.register
def _(op: Linear, x: Shape) -> Shape:
    return x[0] // op.substeps, *x[1:-1], op.weight_IO.shape[1]


@output_shape.register
def _(op: Conv, x_THWC: Shape) -> Shape:
    T, H, W, _ = x_THWC
    rows, columns, _, outputs = op.weight_RSIO.shape
    H, W = (_windows(n, size, op.stride, op.padding) for n, size in ((H, rows), (W, columns)))
    return T // op.substeps, H, W, outputs


@output_shape.register
def _(op: MaxPool, x_THWC: Shape) -> Shape:
    T, H, W, C = x_THWC
    H, W = (_windows(n, op.size, op.stride, op.padding) for n in (H, W))
    return T, H, W, C


def _windows(positions: int, size: int, stride: int, padding: int) -> int:
    """Return how many windows of `size` fit in a row of positions."""
    return (positions + 2 * padding - size) // stride + 1


@output_shape.register
def _(op: Neuron, x: Shape) -> Shape:
    return x if op.kind == "relu" else (op.T * op.substeps, *x[1:])


@output_shape.register
def _(op: Attention, q_TNC: Shape, k_TNC: Shape, v_TNC: Shape, mask_1N: Shape | None = None) -> Shape:
    steps, _, _ = zip(q_TNC, k_TNC, v_TNC, strict=True)
    return max(steps) // op.substeps, *q_TNC[1:]


@output_shape.register
def _(op: Add, a: Shape, b: Shape) -> Shape:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError as error:
        raise InputError(f"{op.name}: values of shape {a} and {b} cannot be added") from error


@output_shape.register
def _(op: Scale, x: Shape) -> Shape:
    return x[0] // op.substeps, *x[1:]


@output_shape.register
def _(op: Reshape, x: Shape) -> Shape:
    T, *inner = x
    known, rest = math.prod(n for n in op.shape if n != -1), math.prod(inner)
    if op.shape.count(-1) > 1 or not known or rest % known or (-1 not in op.shape and rest != known):
        raise InputError(f"{op.name}: {tuple(inner)} cannot be reshaped to {op.shape}")
    return T, *(rest // known if n == -1 else n for n in op.shape)


@output_shape.register
def _(op: Mean, x_TNC: Shape, mask_1N: Shape | None = None) -> Shape:
    return x_TNC[0], *x_TNC[2:]


@output_shape.register
def _(op: Max, x_TNC: Shape) -> Shape:
    return x_TNC[0] // op.substeps, *x_TNC[2:]


@output_shape.register
def _(op: Readout, x_TC: Shape) -> Shape:
    return 1, *x_TC[1:]
