"""What happens behind a position's sums: currents, membranes, and the lists of who fired."""

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


def _lif(builder: ir.IRBuilder, x: Any, v: Any, neuron: list[Any]) -> tuple[Any, Any]:
    _, rate, _, threshold, low, soft, _ = neuron
    h = builder.fadd(v, builder.fmul(builder.fsub(x, builder.fsub(v, low)), rate))
    fired = builder.fcmp_ordered(">=", h, threshold)
    after = builder.select(builder.fcmp_ordered("!=", soft, _ZEROS), builder.fsub(h, threshold), low)
    return builder.zext(fired, _BYTES), builder.select(fired, after, h)


def _ilif(builder: ir.IRBuilder, x: Any, v: Any, neuron: list[Any]) -> tuple[Any, Any]:
    _, gain, decay, _, _, _, top = neuron
    u = builder.fadd(builder.fmul(x, gain), builder.fmul(v, decay))
    level = builder.select(builder.fcmp_ordered(">", u, _ZEROS), u, _ZEROS)
    level = builder.select(builder.fcmp_ordered("<", level, top), level, top)
    rint = get_or_insert_function(builder.module, ir.FunctionType(_FLOATS, (_FLOATS,)), "llvm.rint.v32f32")
    level = builder.call(rint, (level,))
    whole = builder.trunc(builder.fptosi(level, ir.VectorType(I32, LIST_LANES)), _BYTES)
    return whole, builder.fsub(u, level)


@intrinsic
def settle(
    typing_context: Any,
    line: Any,
    x: Any,
    t: Any,
    sums_N: Any,
    scale_N: Any,
    bias_N: Any,
    currents_LXTN: Any,
    add: Any,
    neuron: Any,
    channels: Any,
    out_index: Any,
    out_ends: Any,
    room_2N: Any,
) -> Any:
    """Run time step t of position x of a line from its sums on: graph.execute's maths, in its order.

    The current sums * scale + bias is added to currents_LXTN, or written there if not `add`, and drives the neurons,
    whose spikes are appended to the lists out_index, out_ends of `channels` channels. sums_N: float32; N is a multiple
    of 32. room_2N: float32, holds the membranes from step to step, and room for levels. Without lines, no currents
    are kept and no neuron (kind NONE) reads them.
    """
    arrays = sums_N, scale_N, bias_N, currents_LXTN
    kinds = (line, x, t, *arrays, add, neuron, channels, out_index, out_ends, room_2N)

    def codegen(context, builder, signature, args):  # noqa: ANN001
        line, x, t, _, _, _, _, add, _, channels, *_ = args
        sums, scale, bias, currents, neuron, index, ends, room = (
            context.make_array(kinds[i])(context, builder, args[i]) for i in (3, 4, 5, 6, 8, 10, 11, 12)
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

        def current(n: Any) -> Any:
            """Return the currents of 32 columns, kept where they are to be."""
            total = load(row(sums), n, _FLOATS)
            total = builder.fmul(total, load(row(scale), n, _FLOATS))
            new = builder.fadd(total, load(row(bias), n, _FLOATS))
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

        def fire(step: Any) -> None:
            """Run the neurons and append those that fired to the list.

            The levels are written first: a list's places are known late, and what is read next would wait for them.
            """
            entries, levels = row(index, line, t), row(room, I64(1))
            first = builder.icmp_signed("==", t, _ZERO)
            with loop(builder, _ZERO, size(sums, 0), LIST_LANES) as (n, _, _):
                v = builder.select(first, numbers[4], load(row(room), n, _FLOATS))
                level, v = step(builder, current(n), v, numbers)
                store(v, row(room), n)
                store(level, levels, n)
            begin = builder.select(
                builder.icmp_signed("==", x, _ZERO), I32(0), load(row(ends, line, t), x, I32)
            )
            store(begin, row(ends, line, t), x)
            begin = builder.zext(begin, I64)
            with loop(builder, _ZERO, size(sums, 0), LIST_LANES, [begin]) as (n, (end,), after):
                level = load(levels, n, _BYTES)
                fired = builder.icmp_unsigned("!=", level, ir.Constant(_BYTES, None))
                place = builder.trunc(builder.add(builder.mul(x, channels), n), I16)
                columns = builder.add(splat(builder, place, _WORDS), _LANES)
                store(pack(builder, columns, fired), entries, end)
                if step is _ilif:
                    store(pack(builder, level, fired), levels, builder.sub(end, begin))
                after.append(builder.add(end, builder.zext(count_true(builder, fired), I64)))
            if step is _ilif:
                end = repeat(builder.add(entries, builder.mul(begin, I64(2))), levels, begin, end)
            store(builder.trunc(end, I32), row(ends, line, t), builder.add(x, I64(1)))

        def repeat(entries: Any, levels: Any, begin: Any, end: Any) -> Any:
            """Append the columns of level 2 and above once more, then those of level 3 and above; return the end."""
            start = [entries, builder.sub(end, begin), end]
            with loop(builder, I64(1), top, 1, start) as (least, (source, more, total), after):
                target = builder.add(source, builder.mul(more, I64(2)))
                above = splat(builder, builder.trunc(least, I8), _BYTES)
                with loop(builder, _ZERO, more, LIST_LANES, [_ZERO]) as (i, (again,), later):
                    entry, level = load(source, i, _WORDS), load(levels, i, _BYTES)
                    left = splat(builder, builder.trunc(builder.sub(more, i), I16), _WORDS)
                    mask = builder.icmp_unsigned(">", level, above)
                    mask = builder.and_(mask, builder.icmp_unsigned("<", _LANES, left))
                    store(pack(builder, entry, mask), target, again)
                    store(pack(builder, level, mask), levels, again)
                    later.append(builder.add(again, builder.zext(count_true(builder, mask), I64)))
                after += [target, again, builder.add(total, again)]
            return total

        for number, step in ((NONE, None), (LIF, _lif), (ILIF, _ilif)):
            with builder.if_then(builder.icmp_signed("==", kind, I64(number))):
                if step is not None:
                    fire(step)
                else:
                    with loop(builder, _ZERO, size(sums, 0), LIST_LANES) as (n, _, _):
                        current(n)
        return context.get_dummy_value()

    return types.void(*kinds), codegen
