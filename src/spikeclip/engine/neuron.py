"""What happens behind a position's sums, for all its time steps: currents, membranes, and the lists of who fired."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from spikeclip.engine.vector import (
    F32,
    I1,
    I8,
    I16,
    I32,
    I64,
    LIST_LANES,
    count_true,
    element,
    loop,
    pack,
    splat,
)
from spikeclip.graph import ops

NONE, LIF, ILIF = 0, 1, 2
NEVER = np.float32(-1e30)
"""A current at which no neuron fires: that of columns which only fill up a layer to whole vectors."""
SLACK = 2 * LIST_LANES
"""Entries behind a list's last place, which vectors may write and which no list holds."""


def parameters(op: ops.Neuron | None) -> np.ndarray:
    """Return a neuron's numbers as the kernels take them: kind, gain, decay, threshold, rest, soft, levels."""
    if op is None:
        return np.zeros(7, np.float32)
    if op.kind == "lif":
        rest, soft = op.v_reset or 0.0, op.v_reset is None
        return np.array([LIF, 1 / op.tau, 0.0, op.v_threshold, rest, soft, 1], np.float32)
    return np.array([ILIF, op.D / op.range, 1 - 1 / op.tau, 0.0, 0.0, 0.0, op.D], np.float32)


_FLOATS, _BYTES, _WORDS = (ir.VectorType(kind, LIST_LANES) for kind in (F32, I8, I16))
_ZERO, _ZEROS, _LANES = I64(0), ir.Constant(_FLOATS, None), ir.Constant(_WORDS, list(range(LIST_LANES)))


def _lif(builder: ir.IRBuilder, x: Any, v: Any, neuron: list[Any]) -> tuple[Any, Any, Any]:
    _, rate, _, threshold, low, soft, _ = neuron
    h = builder.fadd(v, builder.fmul(builder.fsub(x, builder.fsub(v, low)), rate))
    fired = builder.fcmp_ordered(">=", h, threshold)
    after = builder.select(builder.fcmp_ordered("!=", soft, _ZEROS), builder.fsub(h, threshold), low)
    return fired, None, builder.select(fired, after, h)


def _ilif(builder: ir.IRBuilder, x: Any, v: Any, neuron: list[Any]) -> tuple[Any, Any, Any]:
    _, gain, decay, _, _, _, top = neuron
    u = builder.fadd(builder.fmul(x, gain), builder.fmul(v, decay))
    level = builder.select(builder.fcmp_ordered(">", u, _ZEROS), u, _ZEROS)
    level = builder.select(builder.fcmp_ordered("<", level, top), level, top)
    rint = get_or_insert_function(builder.module, ir.FunctionType(_FLOATS, (_FLOATS,)), "llvm.rint.v32f32")
    level = builder.call(rint, (level,))
    whole = builder.trunc(builder.fptosi(level, ir.VectorType(I32, LIST_LANES)), _BYTES)
    return builder.fcmp_ordered(">", level, _ZEROS), whole, builder.fsub(u, level)


@intrinsic
def settle(
    typing_context: Any,
    line: Any,
    x: Any,
    sums_TN: Any,
    scale_N: Any,
    bias_N: Any,
    currents_LXTN: Any,
    add: Any,
    neuron: Any,
    channels: Any,
    out_index: Any,
    out_ends: Any,
    level_TN: Any,
) -> Any:
    """Run all time steps of position x of a line from its sums on: graph.execute's maths, in its order.

    The current sums * scale + bias is added to currents_LXTN, or written there if not `add`, and drives the neurons,
    whose spikes are appended to the lists out_index, out_ends of `channels` channels. sums_TN: float32, one row if they
    are constant; N is a multiple of 32. level_TN: uint8, room for levels. Without lines, no currents are kept and no
    neuron (kind NONE) reads them.
    """
    kinds = (
        line,
        x,
        sums_TN,
        scale_N,
        bias_N,
        currents_LXTN,
        add,
        neuron,
        channels,
        out_index,
        out_ends,
        level_TN,
    )

    def codegen(context, builder, signature, args):  # noqa: ANN001
        line, x, _, _, _, _, add, _, channels, *_ = args
        sums, scale, bias, currents, neuron, index, ends, levels = (
            context.make_array(kinds[i])(context, builder, args[i]) for i in (2, 3, 4, 5, 7, 9, 10, 11)
        )

        def size(array: Any, axis: int) -> Any:
            return builder.extract_value(array.shape, axis)

        def row(array: Any, *place: Any) -> Any:
            """Return the address of an array's element or row, by the indices of its first axes."""
            address = builder.ptrtoint(array.data, I64)
            for axis, i in enumerate(place):
                address = builder.add(address, builder.mul(i, builder.extract_value(array.strides, axis)))
            return address

        def load(address: Any, place: Any, kind: Any) -> Any:
            return builder.load(element(builder, address, place, kind), align=1)

        def store(value: Any, address: Any, place: Any) -> None:
            builder.store(value, element(builder, address, place, value.type), align=1)

        numbers = [splat(builder, load(row(neuron), I64(i), F32), _FLOATS) for i in range(7)]
        kind, top = (builder.fptosi(load(row(neuron), I64(i), F32), I64) for i in (0, 6))
        kept, add = builder.icmp_signed(">", size(currents, 0), _ZERO), builder.trunc(add, I1)
        T = builder.select(builder.icmp_signed("==", kind, I64(NONE)), size(currents, 2), size(ends, 1))
        next_ = builder.add(x, I64(1))
        constant = builder.icmp_signed("==", size(sums, 0), I64(1))

        def current(t: Any, n: Any, scale_N: Any, bias_N: Any) -> Any:
            """Return the currents of 32 columns, kept where they are to be."""
            total = load(row(sums, builder.select(constant, _ZERO, t)), n, _FLOATS)
            new = builder.fadd(builder.fmul(total, scale_N), bias_N)
            before = builder.block
            with builder.if_then(kept):
                cells = row(currents, line, x, t)
                both = builder.select(add, builder.fadd(new, load(cells, n, _FLOATS)), new)
                store(both, cells, n)
                inside = builder.block
            merged = builder.phi(_FLOATS)
            merged.add_incoming(new, before)
            merged.add_incoming(both, inside)
            return merged

        def list_(t: Any, n: Any, fired: Any, level: Any) -> None:
            """Append the columns that fired to the list, and their levels to the levels."""
            end = row(ends, line, t, next_)
            written = load(end, _ZERO, I32)
            place = builder.zext(written, I64)
            first = builder.trunc(builder.add(builder.mul(x, channels), n), I16)
            columns = builder.add(splat(builder, first, _WORDS), _LANES)
            store(pack(builder, columns, fired), row(index, line, t), place)
            if level is not None:
                begin = builder.zext(load(row(ends, line, t, x), _ZERO, I32), I64)
                store(pack(builder, level, fired), row(levels, t), builder.sub(place, begin))
            store(builder.add(written, count_true(builder, fired)), end, _ZERO)

        def repeat(t: Any) -> None:
            """Append the columns of level 2 and above to the list once more, then those of level 3 and above."""
            begin, end = (builder.zext(load(row(ends, line, t, i), _ZERO, I32), I64) for i in (x, next_))
            written = builder.sub(end, begin)
            start = [row(index, line, t, begin), written, end]
            with loop(builder, I64(1), top, 1, start) as (least, (source, more, total), after):
                target = builder.add(source, builder.mul(more, I64(2)))
                above = splat(builder, builder.trunc(least, I8), _BYTES)
                with loop(builder, _ZERO, more, LIST_LANES, [_ZERO]) as (i, (again,), later):
                    entry, level = load(source, i, _WORDS), load(row(levels, t), i, _BYTES)
                    left = splat(builder, builder.trunc(builder.sub(more, i), I16), _WORDS)
                    mask = builder.icmp_unsigned(">", level, above)
                    mask = builder.and_(mask, builder.icmp_unsigned("<", _LANES, left))
                    store(pack(builder, entry, mask), target, again)
                    store(pack(builder, level, mask), row(levels, t), again)
                    later.append(builder.add(again, builder.zext(count_true(builder, mask), I64)))
                after += [target, again, builder.add(total, again)]
            store(builder.trunc(total, I32), row(ends, line, t, next_), _ZERO)

        first = builder.icmp_signed("==", x, _ZERO)
        with loop(builder, _ZERO, size(ends, 1), 1) as (t, _, _):
            begin = builder.select(first, I32(0), load(row(ends, line, t, x), _ZERO, I32))
            store(begin, row(ends, line, t, x), _ZERO)
            store(begin, row(ends, line, t, next_), _ZERO)
        for number, step in ((NONE, None), (LIF, _lif), (ILIF, _ilif)):
            with builder.if_then(builder.icmp_signed("==", kind, I64(number))):
                with loop(builder, _ZERO, size(sums, 1), LIST_LANES) as (n, _, _):
                    scale_N, bias_N = load(row(scale), n, _FLOATS), load(row(bias), n, _FLOATS)
                    with loop(builder, _ZERO, T, 1, [numbers[4]]) as (t, (v,), after):
                        driven = current(t, n, scale_N, bias_N)
                        if step is not None:
                            fired, level, v = step(builder, driven, v, numbers)
                            list_(t, n, fired, level)
                        after.append(v)
                if step is _ilif:
                    with loop(builder, _ZERO, T, 1) as (t, _, _):
                        repeat(t)
        return context.get_dummy_value()

    return types.void(*kinds), codegen
