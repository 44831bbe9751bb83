"""The inner loops of the engine as LLVM vector code: add rows, list the neurons that fired, join their lists.

Numba's own loops do it at half the speed or less, because sums do not stay in registers and a list of indices
cannot be written by vectors. The code is LLVM's portable vector IR: AVX-512, AVX2 and ARM differ in speed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_F32 = ir.FloatType()


@contextmanager
def _loop(
    builder: ir.IRBuilder, count: Any, step: int, start: Sequence[Any] = ()
) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """Build `for i in range(0, count, step)` around the block, with values that go from turn to turn.

    Yields (i, values, after): values begin as `start`, the block appends to `after` what they are in the next
    turn, and behind the loop they hold what the last turn left.
    """
    entry = builder.block
    head, body, done = (builder.append_basic_block(name) for name in ("head", "body", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    i, values, after = builder.phi(_I64), [builder.phi(value.type) for value in start], []
    builder.cbranch(builder.icmp_signed("<", i, count), body, done)
    builder.position_at_end(body)
    yield i, values, after
    after.append(builder.add(i, _I64(step)))
    for value, first, later in zip([*values, i], [*start, _I64(0)], after, strict=True):
        value.add_incoming(first, entry)
        value.add_incoming(later, body)
    builder.branch(head)
    builder.position_at_end(done)


def _add_rows(source: Any, target: Any, lanes: int, vectors: int) -> Callable:
    """Make `add_rows(sums, index, count, weights, stride)`, all addresses and element counts.

    sums[0 : lanes * vectors] += the same columns of the rows weights[index[i] * stride], i < count.
    """

    @intrinsic
    def add_rows(typing_context, sums, index, count, weights, stride):  # noqa: ANN001
        def codegen(context, builder, signature, args):  # noqa: ANN001
            sums, index, count, weights, stride = args
            wide = ir.VectorType(target, lanes)
            sums = builder.inttoptr(sums, wide.as_pointer())
            index = builder.inttoptr(index, _I16.as_pointer())
            weights = builder.inttoptr(weights, source.as_pointer())
            cells = [builder.gep(sums, [_I64(v)]) for v in range(vectors)]
            start = [builder.load(cell, align=2) for cell in cells]
            with _loop(builder, count, 1, start) as (i, totals, added):
                row = builder.zext(builder.load(builder.gep(index, [i]), align=2), _I64)
                first = builder.gep(weights, [builder.mul(row, stride)])
                first = builder.bitcast(first, ir.VectorType(source, lanes).as_pointer())
                for v, total in enumerate(totals):
                    x = builder.load(builder.gep(first, [_I64(v)]), align=1)
                    if target is _F32:
                        added.append(builder.fadd(total, x))
                    else:
                        added.append(builder.add(total, builder.sext(x, wide)))
            for cell, total in zip(cells, totals, strict=True):
                builder.store(total, cell, align=2)
            return context.get_dummy_value()

        size = types.intp
        return types.void(size, size, size, size, size), codegen

    return add_rows


# By the number of columns: as many sums as fit the registers, and what is left over in smaller pieces.
INT8_LANES, FP32_LANES = 32, 16
add_int8_384 = _add_rows(_I8, _I16, INT8_LANES, 12)
add_int8_128 = _add_rows(_I8, _I16, INT8_LANES, 4)
add_int8_64 = _add_rows(_I8, _I16, INT8_LANES, 2)
add_int8_32 = _add_rows(_I8, _I16, INT8_LANES, 1)
add_fp32_192 = _add_rows(_F32, _F32, FP32_LANES, 12)
add_fp32_64 = _add_rows(_F32, _F32, FP32_LANES, 4)
add_fp32_16 = _add_rows(_F32, _F32, FP32_LANES, 1)

LIST_LANES = 32


@intrinsic
def list_above(typing_context, levels, count, least, index):  # noqa: ANN001, ANN201
    """list_above(levels, count, least, index) -> written: write the places whose uint8 level is above `least`.

    All but `least` are addresses and element counts; `count` is a multiple of 32, and up to 32 places behind
    the last one written in the uint16 list `index` are overwritten.
    """

    def codegen(context, builder, signature, args):  # noqa: ANN001
        levels, count, least, index = args
        bytes_, words = ir.VectorType(_I8, LIST_LANES), ir.VectorType(_I16, LIST_LANES)
        mask = ir.VectorType(_I1, LIST_LANES)
        levels = builder.inttoptr(levels, _I8.as_pointer())
        index = builder.inttoptr(index, _I16.as_pointer())
        compress = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(words, (words, mask, words)),
            f"llvm.experimental.vector.compress.v{LIST_LANES}i16",
        )
        popcount = builder.module.declare_intrinsic("llvm.ctpop", (_I32,), ir.FunctionType(_I32, (_I32,)))
        least = _splat(builder, builder.trunc(least, _I8), bytes_)
        with _loop(builder, count, LIST_LANES, [_I64(0)]) as (i, (written,), after):
            level = builder.load(builder.bitcast(builder.gep(levels, [i]), bytes_.as_pointer()), align=1)
            fired = builder.icmp_unsigned(">", level, least)
            places = builder.add(
                _splat(builder, builder.trunc(i, _I16), words), ir.Constant(words, list(range(LIST_LANES)))
            )
            packed = builder.call(compress, (places, fired, ir.Constant(words, ir.Undefined)))
            builder.store(packed, builder.bitcast(builder.gep(index, [written]), words.as_pointer()), align=2)
            more = builder.zext(builder.call(popcount, (builder.bitcast(fired, _I32),)), _I64)
            after.append(builder.add(written, more))
        return written

    size = types.intp
    return size(size, size, size, size), codegen


@intrinsic
def add_vectors(typing_context, target, source, count):  # noqa: ANN001, ANN201
    """add_vectors(target, source, count): target[i] += source[i], float32 at two addresses, count a multiple of 16."""

    def codegen(context, builder, signature, args):  # noqa: ANN001
        target, source, count = args
        wide = ir.VectorType(_F32, FP32_LANES)
        target, source = (builder.inttoptr(floats, wide.as_pointer()) for floats in (target, source))
        vectors = builder.sdiv(count, _I64(FP32_LANES))
        with _loop(builder, vectors, 1) as (i, _, _):
            place = builder.gep(target, [i])
            both = builder.fadd(builder.load(place, align=4), builder.load(builder.gep(source, [i]), align=4))
            builder.store(both, place, align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(size, size, size), codegen


@intrinsic
def copy_shifted(typing_context, target, source, count, shift):  # noqa: ANN001, ANN201
    """copy_shifted(target, source, count, shift): target[i] = source[i] + shift for uint16 lists at two addresses.

    Both are read and written in blocks of 32 entries, the last one beyond `count`.
    """

    def codegen(context, builder, signature, args):  # noqa: ANN001
        target, source, count, shift = args
        words = ir.VectorType(_I16, LIST_LANES)
        target, source = (builder.inttoptr(list_, _I16.as_pointer()) for list_ in (target, source))
        shift = _splat(builder, builder.trunc(shift, _I16), words)
        with _loop(builder, count, LIST_LANES) as (i, _, _):
            block = builder.load(builder.bitcast(builder.gep(source, [i]), words.as_pointer()), align=2)
            place = builder.bitcast(builder.gep(target, [i]), words.as_pointer())
            builder.store(builder.add(block, shift), place, align=2)
        return context.get_dummy_value()

    size = types.intp
    return types.void(size, size, size, size), codegen


def _splat(builder: ir.IRBuilder, value: Any, vector: ir.VectorType) -> Any:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _I32(0))
    lanes = ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), lanes)
