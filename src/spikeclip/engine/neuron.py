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

NONE, LIF, ILIF, LIF_TO_ZERO = 0, 1, 2, 3
"""Kinds of neurons. A LIF that a spike sets to 0, where it also rests, takes fewer operations for the same result."""
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
        kind = LIF if soft or rest else LIF_TO_ZERO
        return np.array([kind, 1 / op.tau, 0.0, op.v_threshold, rest, soft, 1], np.float32)
    return np.array([ILIF, op.D / op.range, 1 - 1 / op.tau, 0.0, 0.0, 0.0, op.D], np.float32)


_FLOATS, _BYTES, _WORDS = (ir.VectorType(kind, LIST_LANES) for kind in (F32, I8, I16))
_ZERO, _ZEROS, _LANES = I64(0), ir.Constant(_FLOATS, None), ir.Constant(_WORDS, list(range(LIST_LANES)))


def _lif(builder: ir.IRBuilder, x: Any, v: Any, neuron: list[Any]) -> tuple[Any, Any]:
    _, rate, _, threshold, low, soft, _ = neuron
    h = builder.fadd(v, builder.fmul(builder.fsub(x, builder.fsub(v, low)), rate))
    fired = builder.fcmp_ordered(">=", h, threshold)
    after = builder.select(builder.fcmp_ordered("!=", soft, _ZEROS), builder.fsub(h, threshold), low)
    return builder.zext(fired, _BYTES), builder.select(fired, after, h)


def _lif_to_zero(builder: ir.IRBuilder, x: Any, v: Any, neuron: list[Any]) -> tuple[Any, Any]:
    _, rate, _, threshold, *_ = neuron
    h = builder.fadd(v, builder.fmul(builder.fsub(x, v), rate))
    fired = builder.fcmp_ordered(">=", h, threshold)
    return builder.zext(fired, _BYTES), builder.select(fired, _ZEROS, h)


def _ilif(builder: ir.IRBuilder, x: Any, v: Any, neuron: list[Any]) -> tuple[Any, Any]:
    _, gain, decay, _, _, _, top = neuron
    u = builder.fadd(builder.fmul(x, gain), builder.fmul(v, decay))
    level = builder.select(builder.fcmp_ordered(">", u, _ZEROS), u, _ZEROS)
    level = builder.select(builder.fcmp_ordered("<", level, top), level, top)
    rint = get_or_insert_function(builder.module, ir.FunctionType(_FLOATS, (_FLOATS,)), "llvm.rint.v32f32")
    level = builder.call(rint, (level,))
    whole = builder.trunc(builder.fptosi(level, ir.VectorType(I32, LIST_LANES)), _BYTES)
    return whole, builder.fsub(u, level)


_STEPS = {LIF: _lif, ILIF: _ilif, LIF_TO_ZERO: _lif_to_zero}
"""What a time step does by kind of neuron: current and membrane -> levels and membrane."""
_TILES = (2, 1)
"""Vectors of membranes at a time: one alone would wait for itself from step to step."""


@intrinsic
def settle(
    typing_context: Any,
    line: Any,
    x: Any,
    sums_SN: Any,
    scale_N: Any,
    bias_N: Any,
    currents_LXTN: Any,
    add: Any,
    neuron: Any,
    channels: Any,
    out_index: Any,
    out_ends: Any,
    levels_TN: Any,
) -> Any:
    """Run position x of a line from its sums on, all T time steps: graph.execute's maths, in its order.

    The current sums * scale + bias is added to currents_LXTN, or written there if not `add`, and drives the neurons,
    whose spikes are appended to the lists out_index, out_ends of `channels` channels. sums_SN: float32, of T steps or
    of one, which is that of all; N, the size of scale_N, is a multiple of 32. levels_TN: uint8, room for levels.
    Without lines, no currents are kept; no neuron reads them if its kind is NONE.
    """
    arrays = sums_SN, scale_N, bias_N, currents_LXTN
    kinds = (line, x, *arrays, add, neuron, channels, out_index, out_ends, levels_TN)

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
        steps, columns, last = size(levels, 0), size(scale, 0), builder.sub(size(sums, 0), I64(1))

        def scaled(given: Any, n: Any, scales: Any, biases: Any) -> Any:
            return builder.fadd(builder.fmul(load(given, n, _FLOATS), scales), biases)

        def sums_at(t: Any) -> Any:
            return row(sums, builder.select(builder.icmp_signed("<", t, last), t, last))

        def keep() -> None:
            """Write the currents of all steps, row by row: from memory they come fastest in their order."""
            with loop(builder, _ZERO, steps, 1) as (t, _, _):
                given, cells = sums_at(t), row(currents, line, x, t)
                with loop(builder, _ZERO, columns, LIST_LANES) as (n, _, _):
                    new = scaled(given, n, load(row(scale), n, _FLOATS), load(row(bias), n, _FLOATS))
                    store(builder.select(add, builder.fadd(new, load(cells, n, _FLOATS)), new), cells, n)

        def fire(step: Any, from_kept: bool) -> None:
            """Run some columns after the others through all steps, their membranes in registers; write the levels.

            Not the lists: a list's places are known late, and what is read next would wait for them.
            """
            first = _ZERO
            for vectors in _TILES:
                size_ = vectors * LIST_LANES
                end = builder.sub(columns, builder.urem(builder.sub(columns, first), I64(size_)))
                with loop(builder, first, end, size_) as (begin, _, _):
                    tile = [builder.add(begin, I64(i * LIST_LANES)) for i in range(vectors)]
                    factors = [(load(row(scale), n, _FLOATS), load(row(bias), n, _FLOATS)) for n in tile]
                    with loop(builder, _ZERO, steps, 1, [numbers[4]] * vectors) as (t, membranes, after):
                        given = row(currents, line, x, t) if from_kept else sums_at(t)
                        for n, v, factor in zip(tile, membranes, factors, strict=True):
                            current = load(given, n, _FLOATS) if from_kept else scaled(given, n, *factor)
                            level, v = step(builder, current, v, numbers)
                            store(level, row(levels, t), n)
                            after.append(v)
                first = end

        def listed(t: Any, repeated: bool) -> None:
            """Append the columns that fired at a step to its list."""
            entries, fired_N = row(index, line, t), row(levels, t)
            begin = builder.select(
                builder.icmp_signed("==", x, _ZERO), I32(0), load(row(ends, line, t), x, I32)
            )
            store(begin, row(ends, line, t), x)
            begin = builder.zext(begin, I64)
            first = splat(builder, builder.trunc(builder.mul(x, channels), I16), _WORDS)
            start = [begin, builder.add(first, _LANES)]
            with loop(builder, _ZERO, columns, LIST_LANES, start) as (n, (end, places), after):
                level = load(fired_N, n, _BYTES)
                fired = builder.icmp_unsigned("!=", level, ir.Constant(_BYTES, None))
                store(pack(builder, places, fired), entries, end)
                if repeated:
                    store(pack(builder, level, fired), fired_N, builder.sub(end, begin))
                after.append(builder.add(end, builder.zext(count_true(builder, fired), I64)))
                after.append(builder.add(places, ir.Constant(_WORDS, [LIST_LANES] * LIST_LANES)))
            if repeated:
                end = repeat(builder.add(entries, builder.mul(begin, I64(2))), fired_N, begin, end)
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

        with builder.if_then(kept):
            keep()
        for number, step in _STEPS.items():
            with builder.if_then(builder.icmp_signed("==", kind, I64(number))):
                with builder.if_else(kept) as (then, otherwise):
                    with then:
                        fire(step, from_kept=True)
                    with otherwise:
                        fire(step, from_kept=False)
                with loop(builder, _ZERO, steps, 1) as (t, _, _):
                    listed(t, repeated=number == ILIF)
        return context.get_dummy_value()

    return types.void(*kinds), codegen
