"""The inner loops of the engine as LLVM vector code, and what such code is written with.

Numba's loops do it at half the speed or less, because sums do not stay in registers and a list of indices
cannot be written by vectors. The code is LLVM's portable vector IR: AVX-512, AVX2 and ARM differ in speed alone.
Functions take addresses as integers, and sizes and strides in elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32 = ir.FloatType()
SIZE = types.intp
LIST_LANES = 32
"""Entries of a list, and columns of a layer, that are handled at a time."""


def empty(shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return an array of any content that begins with a line of the cache: a vector across two costs twice."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.empty(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size].view(dtype).reshape(shape)


@contextmanager
def loop(
    builder: ir.IRBuilder, first: Any, last: Any, step: int, start: Sequence[Any] = ()
) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """Build `for i in range(first, last, step)` around the block, with values that go from turn to turn.

    Yields (i, values, after): values begin as `start`, the block appends to `after` what they are in the next
    turn, and behind the loop they hold what the last turn left.
    """
    entry = builder.block
    head, body, done = (builder.append_basic_block(name) for name in ("head", "body", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    i, values, after = builder.phi(I64), [builder.phi(value.type) for value in start], []
    builder.cbranch(builder.icmp_signed("<", i, last), body, done)
    builder.position_at_end(body)
    yield i, values, after
    after.append(builder.add(i, I64(step)))
    for value, before, later in zip([*values, i], [*start, first], after, strict=True):
        value.add_incoming(before, entry)
        value.add_incoming(later, builder.block)
    builder.branch(head)
    builder.position_at_end(done)


def element(builder: ir.IRBuilder, address: Any, place: Any, kind: Any) -> Any:
    """Return a pointer to the element, or vector of elements, that begins `place` elements behind an address."""
    one = kind.element if isinstance(kind, ir.VectorType) else kind
    pointer = builder.gep(builder.inttoptr(address, one.as_pointer()), [place])
    return builder.bitcast(pointer, kind.as_pointer())


def splat(builder: ir.IRBuilder, value: Any, vector: ir.VectorType) -> Any:
    """Return a vector whose elements are all `value`."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, I32(0))
    lanes = ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), lanes)


def pack(builder: ir.IRBuilder, vector: Any, mask: Any) -> Any:
    """Return the elements that `mask` selects, moved to the front; what follows them is undefined."""
    kind = vector.type
    compress = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(kind, (kind, mask.type, kind)),
        f"llvm.experimental.vector.compress.v{kind.count}i{kind.element.width}",
    )
    return builder.call(compress, (vector, mask, ir.Constant(kind, ir.Undefined)))


def count_true(builder: ir.IRBuilder, mask: Any) -> Any:
    """Return how many elements of a mask of 32 are true (I32)."""
    popcount = builder.module.declare_intrinsic("llvm.ctpop", (I32,), ir.FunctionType(I32, (I32,)))
    return builder.call(popcount, (builder.bitcast(mask, I32),))


_TILES = (12, 8, 6, 4, 3, 2, 1)
"""Vectors of sums that are summed at a time: as many as fit the registers, what is left over in smaller pieces."""


@intrinsic
def shift(typing_context, target, source, count, by):  # noqa: ANN001, ANN201
    """shift(target, source, count, by): uint16 target[i] = source[i] + by, i < count.

    It goes by whole vectors, one at least: what follows in target is overwritten, and most lists need no branch.
    """

    def codegen(context, builder, signature, args):  # noqa: ANN001
        target, source, count, by = args
        words = ir.VectorType(I16, LIST_LANES)
        moved = splat(builder, builder.trunc(by, I16), words)
        some = builder.select(builder.icmp_signed(">", count, I64(1)), count, I64(1))
        with loop(builder, I64(0), some, LIST_LANES) as (i, _, _):
            entries = builder.load(element(builder, source, i, words), align=2)
            builder.store(builder.add(entries, moved), element(builder, target, i, words), align=2)
        return context.get_dummy_value()

    return types.void(SIZE, SIZE, SIZE, SIZE), codegen


@intrinsic
def sum_rows(typing_context, sums, rows, count, weight_IN):  # noqa: ANN001, ANN201
    """sum_rows(sums, rows, count, weight_IN): float32 sums[:] = sum of the rows that a list of uint16 names.

    The rows are int8, summed in int16, or float32; their columns are a multiple of 32.
    """
    integer = weight_IN.dtype == types.int8
    source, lanes = (I8, 32) if integer else (F32, 16)
    floats = ir.VectorType(F32, lanes)
    totals_ = ir.VectorType(I16, lanes) if integer else floats

    def codegen(context, builder, signature, args):  # noqa: ANN001
        sums, rows, count, weight = args
        weights = context.make_array(weight_IN)(context, builder, weight)
        columns = builder.extract_value(weights.shape, 1)
        first = I64(0)
        for vectors in _TILES:
            size = I64(vectors * lanes)
            last = builder.sub(columns, builder.urem(builder.sub(columns, first), size))
            with loop(builder, first, last, vectors * lanes) as (n, _, _):
                zeros = [ir.Constant(totals_, None)] * vectors
                start = builder.gep(weights.data, [n])
                with loop(builder, I64(0), count, 1, zeros) as (i, totals, added):
                    row = builder.zext(builder.load(element(builder, rows, i, I16), align=2), I64)
                    row = builder.gep(start, [builder.mul(row, columns)])
                    row = builder.bitcast(row, ir.VectorType(source, lanes).as_pointer())
                    for v, total in enumerate(totals):
                        x = builder.load(builder.gep(row, [I64(v)]), align=1)
                        if integer:
                            added.append(builder.add(total, builder.sext(x, totals_)))
                        else:
                            added.append(builder.fadd(total, x))
                for v, total in enumerate(totals):
                    place = element(builder, sums, builder.add(n, I64(v * lanes)), floats)
                    builder.store(builder.sitofp(total, floats) if integer else total, place, align=4)
            first = last
        return context.get_dummy_value()

    return types.void(SIZE, SIZE, SIZE, weight_IN), codegen


@intrinsic
def place_at(typing_context, address):  # noqa: ANN001, ANN201
    """place_at(address): the int32 there. Numba would first ask whether the indices of an array count from its end."""

    def codegen(context, builder, signature, args):  # noqa: ANN001
        return builder.sext(builder.load(element(builder, args[0], I64(0), I32), align=4), I64)

    return SIZE(SIZE), codegen


@intrinsic
def add_vectors(typing_context, target, source, count):  # noqa: ANN001, ANN201
    """add_vectors(target, source, count): float32 target[i] += source[i], i < count, a multiple of 16."""

    def codegen(context, builder, signature, args):  # noqa: ANN001
        target, source, count = args
        floats = ir.VectorType(F32, 16)
        with loop(builder, I64(0), count, 16) as (i, _, _):
            place = element(builder, target, i, floats)
            added = builder.load(element(builder, source, i, floats), align=4)
            builder.store(builder.fadd(builder.load(place, align=4), added), place, align=4)
        return context.get_dummy_value()

    return types.void(SIZE, SIZE, SIZE), codegen


@intrinsic
def largest(typing_context, target, cells, count, columns):  # noqa: ANN001, ANN201
    """largest(target, cells, count, columns): float32 target[n] = max of cell[n], n < columns, a multiple of 32.

    cells: address of `count` int64, the addresses of the cells; there is one at least.
    """

    def codegen(context, builder, signature, args):  # noqa: ANN001
        target, cells, count, columns = args
        floats = ir.VectorType(F32, 32)

        def load(k: Any, n: Any) -> Any:
            address = builder.load(element(builder, cells, k, I64))
            return builder.load(element(builder, address, n, floats), align=4)

        with loop(builder, I64(0), columns, 32) as (n, _, _):
            first = load(I64(0), n)
            with loop(builder, I64(1), count, 1, [first]) as (k, (most,), after):
                x = load(k, n)
                after.append(builder.select(builder.fcmp_ordered(">", x, most), x, most))
            builder.store(most, element(builder, target, n, floats), align=4)
        return context.get_dummy_value()

    return types.void(SIZE, SIZE, SIZE, SIZE), codegen
