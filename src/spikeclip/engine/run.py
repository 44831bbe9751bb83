"""Run one step of a plan: unpack its inputs, call its kernel, keep its output."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spikeclip.engine import kernels
from spikeclip.engine.attention import attend
from spikeclip.engine.neuron import SLACK, parameters
from spikeclip.engine.plan import Attend, DenseConv, Fire, Plain, Step, Synapses
from spikeclip.graph import ops
from spikeclip.graph.execute import run_op

_NOTHING = np.zeros((0, 0, 0), np.float32)
_NO_LIST, _NO_COUNT = np.zeros((0, 0, 0), np.uint16), np.zeros((0, 0), np.int32)


@dataclass
class Spikes:
    """Lists of spikes: index (T, P, room), count (T, P); P = product of `space` positions of `width` channels."""

    index: np.ndarray
    count: np.ndarray
    space: tuple[int, ...]
    width: int

    @staticmethod
    def empty(T: int, space: tuple[int, ...], width: int, levels: int) -> Spikes:
        positions = int(np.prod(space))
        index = np.empty((T, positions, width * levels + SLACK), np.uint16)
        return Spikes(index, np.empty((T, positions), np.int32), space, width)

    def dense(self) -> np.ndarray:
        """Return the levels (T, *space, width) as uint8."""
        level_TPN = np.empty((*self.count.shape, self.width), np.uint8)
        kernels.levels_of(self.index, self.count, level_TPN)
        return level_TPN.reshape(len(self.count), *self.space, self.width)


@dataclass
class Values:
    """What a run has computed so far, by name."""

    inputs: np.ndarray
    reals: dict[str, np.ndarray] = field(default_factory=dict)
    spikes: dict[str, Spikes] = field(default_factory=dict)
    output: np.ndarray = field(default_factory=lambda: _NOTHING)


def run_step(step: Step, values: Values) -> None:
    """Run one step; its output is added to `values`."""
    reals, spikes = values.reals, values.spikes
    if isinstance(step, Plain):
        given = [spikes[s].dense() if s in spikes else reals[s] for s in step.sources]
        for i, tokens in enumerate(step.tokens):
            if tokens:
                given[i] = given[i].reshape(*given[i].shape[:2], -1, given[i].shape[-1])
        values.output = reals[step.name] = run_op(step.op, *(given or [values.inputs[None]]))
    elif isinstance(step, DenseConv):
        reals[step.name] = _dense_conv(step, reals[step.source])
    elif isinstance(step, Fire):
        spikes[step.name] = _fire(step, reals[step.source])
    elif isinstance(step, Attend):
        q, k, v = (spikes[name] for name in step.op.inputs[:3])
        mask = reals[step.mask][0] if step.mask else None
        spikes[step.neuron.name] = _attend(step, q, k, v, mask)
    else:
        values.output = _synapses(step, spikes, reals)


def _dense_conv(step: DenseConv, x_1BHWI: np.ndarray) -> np.ndarray:
    B, H, W = x_1BHWI.shape[1:4]
    space = _space_behind(step.filter_, (B, H, W))
    out = np.empty((int(np.prod(space)), len(step.op.bias_O)), np.float32)
    kernels.dense_conv(np.ascontiguousarray(x_1BHWI[0]), step.weight_IN, step.bias_N, step.filter_, out)
    return out.reshape(1, *space, -1)


def _fire(step: Fire, currents: np.ndarray) -> Spikes:
    B, N = currents.shape[1], currents.shape[-1]
    inner = currents.shape[2:-1]
    H, W = inner if len(inner) == 2 else (int(np.prod(inner)), 1)
    size, stride, padding = step.window
    space = (B, *inner)
    if size > 1:
        space = (B, *((side + 2 * padding - size) // stride + 1 for side in (H, W)))
    out = Spikes.empty(step.op.T, space, N, _levels(step.op))
    kernels.pool_and_fire(
        np.ascontiguousarray(currents).reshape(len(currents), B, H, W, N),
        step.window,
        parameters(step.op),
        out.index,
        out.count,
    )
    return out


def _attend(step: Attend, q: Spikes, k: Spikes, v: Spikes, mask_BN: np.ndarray | None) -> Spikes:
    B = q.space[0]
    tokens = int(np.prod(q.space[1:]))
    if mask_BN is None:
        mask_BN = np.ones((B, tokens), np.bool_)
    out = Spikes.empty(step.neuron.T, q.space, q.width, _levels(step.neuron))
    attend(
        q.index, q.count, k.index, k.count, v.index, v.count, mask_BN,
        q.width, step.op.num_heads, step.op.scale, parameters(step.neuron), out.index, out.count,
    )  # fmt: skip
    return out


def _synapses(step: Synapses, spikes: dict[str, Spikes], reals: dict[str, np.ndarray]) -> np.ndarray:
    """Run one step into `spikes` and `reals`; return its currents (no rows where they are not kept)."""
    x = spikes[step.source]
    T = len(x.count)
    B, inner = x.space[0], x.space[1:]
    flat = (B, *(inner if len(inner) == 2 else (int(np.prod(inner)), 1)))
    space = _space_behind(step.filter_, flat) if isinstance(step.op, ops.Conv) else x.space
    shape = (T, int(np.prod(space)), step.outputs)
    stream = currents = _NOTHING
    if step.stream is not None:
        start = reals[step.stream]
        # The last reader of the old stream is this step, so the sum takes its place.
        stream = start if len(start) == T else np.repeat(start, T, 0)
        space, stream = stream.shape[1:-1], stream.reshape(shape)
        if step.result is not None:
            reals[step.result] = stream.reshape(T, *space, step.outputs)
    elif step.result is not None:
        currents = np.empty(shape, np.float32)
        reals[step.result] = currents.reshape(T, *space, step.outputs)
    out_index, out_count = _NO_LIST, _NO_COUNT
    if step.neuron is not None:
        out = Spikes.empty(T, space, step.outputs, _levels(step.neuron))
        spikes[step.neuron.name], out_index, out_count = out, out.index, out.count
    behind = (stream, currents, parameters(step.neuron), out_index, out_count)
    if step.product is None:
        kernels.synapses(
            x.index, x.count, flat, step.filter_, step.weight_IN, step.scale_N, step.bias_N, *behind
        )
    else:
        dtype, product = step.product
        level_RK = np.empty((shape[0] * shape[1], len(step.weight_IN)), dtype)
        kernels.unfold(x.index, x.count, flat, step.filter_, level_RK)
        kernels.settle(product(level_RK), step.scale_N, step.bias_N, *behind)
    return reals[step.result] if step.result is not None else currents


def _space_behind(filter_: tuple[int, int, int], space: tuple[int, int, int]) -> tuple[int, int, int]:
    R, S, padding = filter_
    B, H, W = space
    return B, H + 2 * padding - R + 1, W + 2 * padding - S + 1


def _levels(op: ops.Neuron) -> int:
    return op.D if op.kind == "ilif" else 1
