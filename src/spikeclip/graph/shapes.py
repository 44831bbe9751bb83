"""The shape of every value of a graph, from its operations alone: nothing is computed."""

from __future__ import annotations

import dataclasses
import math
from functools import singledispatch

import numpy as np

from spikeclip.errors import InputError
from spikeclip.graph.ops import (
    Add,
    Attention,
    Conv,
    Depthwise,
    Embedding,
    Gain,
    Graph,
    Image,
    Linear,
    Mask,
    Max,
    MaxPool,
    Mean,
    Neuron,
    OnOff,
    Op,
    Readout,
    Reshape,
    Scale,
    Tokens,
    axes,
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
            found[op.name] = _input(op, full_shape(op) if input_shape is None else input_shape)
        else:
            inputs = [found[name] for name in op.inputs]
            _check_axes(op, inputs)
            found[op.name] = output_shape(op, *inputs)
    return found


def dimension(graph: Graph) -> int:
    """Return the dimension of what a graph returns."""
    return shapes(graph)[graph.ops[-1].name][-1]


def _check_axes(op: Op, inputs: list[Shape]) -> None:
    """Raise `InputError` where axes of one letter, of inputs and arrays, differ in size."""
    named = [(name, read.axes, x[1:]) for name, read, x in zip(op.inputs, op.reads, inputs, strict=False)]
    for field in dataclasses.fields(op):
        if isinstance(array := getattr(op, field.name), np.ndarray):
            named.append((field.name, axes(field.name), array.shape))
    sizes: dict[str, tuple[int, str]] = {}
    for name, letters, shape in named:
        if letters.startswith("*"):
            letters = letters[1:]
            shape = shape[len(shape) - len(letters) :]
        if len(letters) != len(shape):
            raise InputError(f"{op.name}: {name} has the shape {shape}, expected ({', '.join(letters)})")
        for letter, size in zip(letters, shape, strict=True):
            first, where = sizes.setdefault(letter, (size, name))
            if first != size:
                raise InputError(f"{op.name}: axis {letter} is {first} in {where}, and {size} in {name}")


def full_shape(op: Image | Tokens) -> Shape:
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
    if shape != full_shape(op):
        raise InputError(f"expected a picture of shape {full_shape(op)}, got {shape}")
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
    if ids[1] > len(op.positions_LC):
        raise InputError(f"{op.name}: texts of {ids[1]} tokens, and {len(op.positions_LC)} positions")
    return *ids, op.table_VC.shape[1]


@output_shape.register
def _(op: Linear, x: Shape) -> Shape:
    return x[0] // op.substeps, *x[1:-1], op.weight_IO.shape[1]


@output_shape.register
def _(op: Conv, x_THWC: Shape) -> Shape:
    return _filtered(op, op.weight_RSIO, x_THWC)


@output_shape.register
def _(op: Depthwise, x_THWC: Shape) -> Shape:
    return _filtered(op, op.weight_RSC, x_THWC)


def _filtered(op: Conv | Depthwise, weight: np.ndarray, x_THWC: Shape) -> Shape:
    T, H, W, _ = x_THWC
    rows, columns, *_, outputs = weight.shape
    if max(op.padding, op.padding_end or 0) > min(rows, columns):
        padding = op.padding if op.padding_end is None else (op.padding, op.padding_end)
        raise InputError(f"{op.name}: a filter of {rows} x {columns} with padding {padding}")
    H, W = (_windows(op, n, size) for n, size in ((H, rows), (W, columns)))
    return T // op.substeps, H, W, outputs


@output_shape.register
def _(op: MaxPool, x_THWC: Shape) -> Shape:
    T, H, W, C = x_THWC
    if op.padding >= op.size or op.padding > min(H, W):
        raise InputError(f"{op.name}: windows of size {op.size} with padding {op.padding} may see nothing")
    H, W = (_windows(op, n, op.size) for n in (H, W))
    return T, H, W, C


def _windows(op: Conv | Depthwise | MaxPool, positions: int, size: int) -> int:
    """Return how many windows of `size` fit in a row of positions."""
    padded = positions + sum(paddings(op))
    if size > padded:
        raise InputError(f"{op.name}: a window of {size} does not fit in {positions} positions")
    return (padded - size) // op.stride + 1


def paddings(op: Conv | Depthwise | MaxPool) -> tuple[int, int]:
    """Return the padding before the first and behind the last row and column."""
    end = None if isinstance(op, MaxPool) else op.padding_end
    return op.padding, op.padding if end is None else end


@output_shape.register
def _(op: Neuron, x: Shape) -> Shape:
    if op.kind == "relu":
        return x
    if op.signed and op.substeps > 1:
        raise InputError(
            f"{op.name}: signed spikes have no sub-steps: to_substeps splits them into ON and OFF"
        )
    if x[0] not in (1, op.T):
        raise InputError(f"{op.name}: {op.T} time steps, and currents of {x[0]}")
    return op.T * op.substeps, *x[1:]


@output_shape.register
def _(op: Gain, x: Shape) -> Shape:
    return x


@output_shape.register
def _(op: OnOff, x: Shape) -> Shape:
    return *x[:-1], 2 * x[-1]


@output_shape.register
def _(op: Attention, q_TNC: Shape, k_TNC: Shape, v_TNC: Shape, mask_1N: Shape | None = None) -> Shape:
    if q_TNC[-1] % op.num_heads:
        raise InputError(f"{op.name}: {q_TNC[-1]} channels do not divide into {op.num_heads} heads")
    if not q_TNC[0] == k_TNC[0] == v_TNC[0]:
        raise InputError(f"{op.name}: q, k and v have {q_TNC[0]}, {k_TNC[0]} and {v_TNC[0]} time steps")
    return q_TNC[0] // op.substeps, *q_TNC[1:]


@output_shape.register
def _(op: Add, a: Shape, b: Shape) -> Shape:
    if a[1:] != b[1:] or (a[0] != b[0] and 1 not in (a[0], b[0])):
        raise InputError(f"{op.name}: values of shape {a} and {b} cannot be added")
    return max(a[0], b[0]), *a[1:]


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
    if x_TC[0] not in (1, len(op.weights_T)):
        raise InputError(f"{op.name}: weights of {len(op.weights_T)} time steps, and values of {x_TC[0]}")
    return 1, *x_TC[1:]
