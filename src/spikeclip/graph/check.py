"""Whether a graph is one at all: every field and array against what its operation says of itself, and all together.

Kernels take addresses and sizes on trust, so nothing runs that was not checked here.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np

from spikeclip.data.readers.listing import short
from spikeclip.errors import InputError
from spikeclip.graph.ops import LARGEST, Embedding, Graph, Image, Mask, Neuron, Op, Readout, Tokens, axes
from spikeclip.graph.shapes import Shape, shapes

MOST_OPS = 10_000
MOST_VALUES = 2**28
"""Numbers of one value for one input: seven times those of the largest preset's on pictures of 224 pixels."""


def check(graph: Graph) -> dict[str, Shape]:
    """Raise `InputError` for a graph that cannot run, with the operation and what was expected.

    Returns the shape (T, ...) of every operation's output, see `shapes`.
    """
    _check_order(graph.ops)
    for op in graph.ops:
        _check_fields(op)
    _check_texts(graph)
    check_steps(graph.ops)
    found, text = shapes(graph), graph.input
    # What fits two lengths fits all: sizes are multiples of it.
    if isinstance(text, Tokens) and not text.exact:
        last = graph.ops[-1].name
        if shapes(graph, (1,))[last] != found[last]:
            raise InputError(f"{last}: its size is another for a shorter text")
    for name, shape in found.items():
        if math.prod(shape) > MOST_VALUES:
            raise InputError(f"{name}: {shape} is more than {MOST_VALUES} numbers for one input")
    return found


def check_tower(graph: Graph) -> None:
    """Raise `InputError` for a graph that is not a whole tower."""
    found, last = check(graph), graph.ops[-1]
    read = {name for op in graph.ops for name in op.inputs}
    for op in graph.ops[:-1]:
        if op.name not in read:
            raise InputError(f"{op.name}: no operation reads it")
    if last.gives != "values" or len(found[last.name]) != 2 or found[last.name][0] != 1:
        raise InputError(f"{last.name}: a tower ends with one embedding (1, D), not {found[last.name]}")
    image = graph.input
    if isinstance(image, Image) and not image.shape[-1] == len(image.mean) == len(image.std):
        raise InputError(
            f"{image.name}: mean and std have one number for each of the {image.shape[-1]} channels, "
            f"got {len(image.mean)} and {len(image.std)}"
        )


def _check_order(ops: list[Op]) -> None:
    """Names, and that every operation reads earlier ones of the right kind."""
    if not ops or not isinstance(ops[0], (Image, Tokens)):
        raise InputError("a graph begins with Image or Tokens")
    if len(ops) > MOST_OPS:
        raise InputError(f"a graph has at most {MOST_OPS} operations, got {len(ops)}")
    gives: dict[str, str] = {}
    for op in ops:
        kind = type(op).__name__
        if not isinstance(op.name, str) or not re.fullmatch(r"[\w.]{1,200}", op.name):
            raise InputError(
                f"the name of a {kind} is of letters, digits, _ and ., got {str(op.name)[:50]!r}"
            )
        if op.name in gives:
            raise InputError(f"{op.name}: two operations have this name")
        if gives and isinstance(op, (Image, Tokens)):
            raise InputError(f"{op.name}: a graph has one input, {ops[0].name}")
        if not _fits(tuple[str, ...], op.inputs):
            raise InputError(f"{op.name}: inputs is a list of names, got {short(op.inputs)}")
        needed = [read for read in op.reads if not read.optional]
        if not len(needed) <= len(op.inputs) <= len(op.reads):
            raise InputError(f"{op.name}: {kind} reads {len(needed)} values, got {len(op.inputs)}")
        for name, read in zip(op.inputs, op.reads, strict=False):
            if name not in gives:
                raise InputError(f"{op.name} reads {name[:200]!r}, and no operation before it has this name")
            if gives[name] != read.kind:
                raise InputError(f"{op.name}: {kind} reads {read.kind}, and {name} is {gives[name]}")
        gives[op.name] = op.gives


def _check_fields(op: Op) -> None:
    """Types, ranges, and of arrays the number of axes and that all are numbers."""
    for name, hint in _hints(type(op)).items():
        value = getattr(op, name)
        if hint is not np.ndarray:
            if not _fits(hint, value):
                raise InputError(f"{op.name}: {name} is {_described(hint)}, got {short(value)}")
            continue
        array, letters = isinstance(value, np.ndarray), axes(name)
        if not array or value.dtype != np.float32 or value.ndim != len(letters) or not value.size:
            got = f"{value.dtype} {value.shape}" if array else short(value)
            raise InputError(f"{op.name}: {name} is float32 of the axes ({', '.join(letters)}), got {got}")
        low, high = float(value.min()), float(value.max())
        if not (low >= -LARGEST and high <= LARGEST):  # NaN is neither
            raise InputError(f"{op.name}: {name} holds NaN, infinity or numbers beyond {LARGEST:.0e}")


@lru_cache
def _hints(cls: type[Op]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.name not in ("name", "inputs")}


def _fits(hint: Any, value: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _fits(args[0], value) and value in args[1]
    if origin in (typing.Union, types.UnionType):
        return any(_fits(choice, value) for choice in args)
    if origin is Literal:
        return isinstance(value, str) and value in args
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        parts = args[:1] * len(value) if args[-1] is Ellipsis else args
        return len(parts) == len(value) and all(map(_fits, parts, value))
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if hint is float else hint)


def _described(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        kind = "a whole number" if args[0] is int else "a number"
        return f"{kind} {args[1]}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_described, args))
    if origin is Literal:
        return f"one of {', '.join(args)}"
    if origin is tuple:
        parts = [f"each {_described(args[0])}"] if args[-1] is Ellipsis else map(_described, args)
        return f"a list, {', '.join(parts)}"
    return "null" if hint is type(None) else "true or false"


def _check_texts(graph: Graph) -> None:
    """End tokens are the same everywhere and in the vocabulary, and every token has a position."""
    text = graph.input
    if not isinstance(text, Tokens):
        return
    for op in graph.ops:
        if isinstance(op, Mask) and op.eos_id != text.eos_id:
            raise InputError(f"{op.name}: eos_id is {op.eos_id}, that of {text.name} {text.eos_id}")
        if isinstance(op, Embedding) and text.eos_id >= len(op.table_VC):
            raise InputError(f"{text.name}: eos_id is {text.eos_id} in a vocabulary of {len(op.table_VC)}")


def check_steps(ops: list[Op]) -> None:
    """One T for all, and sub-steps that are added up where the next operation reads them."""
    times = {op.T for op in ops if isinstance(op, Neuron) and op.kind != "relu"}
    times |= {len(op.weights_T) for op in ops if isinstance(op, Readout)}
    if len(times) > 1:
        raise InputError(f"all neurons and readouts have one number of time steps, got {sorted(times)}")
    substeps: dict[str, int] = {}  # of the output of each operation
    for op in ops:
        reads = {substeps[name] for name, read in zip(op.inputs, op.reads, strict=False) if not read.optional}
        given = max(reads, default=1)
        if isinstance(op, Neuron):
            fits = reads == {1} and op.substeps in (1, op.D if op.kind == "ilif" else 1)
            given = op.substeps
        else:
            adds = hasattr(op, "substeps")
            fits = len(reads) <= 1 and getattr(op, "substeps", given) == given
            given = 1 if adds else given
        if not fits:
            raise InputError(f"{op.name}: its sub-steps are not those of what it reads")
        substeps[op.name] = given
