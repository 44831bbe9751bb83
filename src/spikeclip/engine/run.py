"""Run one step of a plan: unpack its inputs, call its kernel, keep its output."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import get_num_threads

from spikeclip.engine import kernels
from spikeclip.engine.attention import attend
from spikeclip.engine.dense import Stretch
from spikeclip.engine.neuron import SLACK, parameters
from spikeclip.engine.plan import NO_POOL, Attend, Dense, Fire, Plain, Step, Synapses
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

    def dense(self) -> np.ndarray:
        """Return the levels (T, *space, width) as uint8."""
        level_TPN = np.empty((*self.count.shape, self.width), np.uint8)
        kernels.levels_of(self.index, self.count, level_TPN)
        return level_TPN.reshape(len(self.count), *self.space, self.width)


@dataclass
class Values:
    """What a run has computed so far, by name."""

    inputs: np.ndarray
    workspace: dict[str, np.ndarray] = field(default_factory=dict)
    """Arrays of an earlier run of the same engine, to be written over: new memory costs a page fault per 4 KB."""
    reals: dict[str, np.ndarray] = field(default_factory=dict)
    spikes: dict[str, Spikes] = field(default_factory=dict)
    output: np.ndarray = field(default_factory=lambda: _NOTHING)

    def room(self, name: str, shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
        """Return an array of any content that is `name`'s own."""
        array = self.workspace.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self.workspace[name] = np.empty(shape, dtype)
        return array

    def room_for_spikes(self, op: ops.Neuron, T: int, space: tuple[int, ...], width: int) -> Spikes:
        """Return lists of any content for the spikes of a layer of neurons, and keep them under its name."""
        positions, levels = int(np.prod(space)), op.D if op.kind == "ilif" else 1
        index = self.room(f"{op.name} index", (T, positions, width * levels + SLACK), np.uint16)
        self.spikes[op.name] = Spikes(
            index, self.room(f"{op.name} count", (T, positions), np.int32), space, width
        )
        return self.spikes[op.name]


def run_step(step: Step | Stretch, values: Values) -> None:
    """Run one step; its output is added to `values`."""
    reals, spikes = values.reals, values.spikes
    if isinstance(step, Plain):
        given = [spikes[s].dense() if s in spikes else reals[s] for s in step.sources]
        for i, tokens in enumerate(step.tokens):
            if tokens:
                given[i] = given[i].reshape(*given[i].shape[:2], -1, given[i].shape[-1])
        values.output = reals[step.name] = run_op(step.op, *(given or [values.inputs[None]]))
    elif isinstance(step, Dense):
        _dense(step, values)
    elif isinstance(step, Fire):
        _fire(step, values)
    elif isinstance(step, Attend):
        _attend(step, values)
    elif isinstance(step, Stretch):
        _stretch(step, values)
    elif step.window == NO_POOL or step.neuron is None:
        _synapses(step, values)
    else:
        _pooled_synapses(step, step.neuron, values)


def _dense(step: Dense, values: Values) -> None:
    """Run in our own kernel: BLAS would leave threads behind that spin on the cores the next layers need."""
    x = values.reals[step.source]
    flat = x.shape if isinstance(step.op, ops.Conv) else (1, x[..., 0].size, 1, 1, x.shape[-1])
    space = _space_behind(step.filter_, flat[1:4])
    out = values.room(step.name, (int(np.prod(space)), len(step.op.bias_O)), np.float32)
    x_BHWI = np.ascontiguousarray(x, np.float32).reshape(flat[1:])
    kernels.dense_conv(x_BHWI, step.weight_IN, step.bias_N, step.filter_, out)
    shape = (1, *space) if isinstance(step.op, ops.Conv) else x.shape[:-1]
    values.output = values.reals[step.name] = out.reshape(*shape, -1)


def _fire(step: Fire, values: Values) -> None:
    currents = values.reals[step.source]
    B, N = currents.shape[1], currents.shape[-1]
    inner = currents.shape[2:-1]
    H, W = _plane(inner)
    space = _space_behind_pool(step.window, (B, H, W)) if step.window != NO_POOL else (B, *inner)
    out = values.room_for_spikes(step.op, step.op.T, space, N)
    kernels.pool_and_fire(
        np.ascontiguousarray(currents).reshape(len(currents), B, H, W, N),
        step.window,
        parameters(step.op),
        out.index,
        out.count,
    )


def _attend(step: Attend, values: Values) -> None:
    q, k, v = (values.spikes[name] for name in step.op.inputs[:3])
    shape = (q.space[0], int(np.prod(q.space[1:])))
    mask_BN = np.ones(shape, np.bool_) if step.mask is None else values.reals[step.mask][0]
    out = values.room_for_spikes(step.neuron, step.neuron.T, q.space, q.width)
    head = q.width // step.op.num_heads
    kv_RD = values.room(
        f"{step.name} kv", (q.count.size // shape[1] * q.width, head + -head % 16), np.float32
    )
    attend(
        q.index, q.count, k.index, k.count, v.index, v.count, mask_BN,
        q.width, step.op.num_heads, step.op.scale, parameters(step.neuron), kv_RD, out.index, out.count,
    )  # fmt: skip


def _synapses(step: Synapses, values: Values) -> None:
    x = values.spikes[step.source]
    T = len(x.count)
    B, inner = x.space[0], x.space[1:]
    flat = (B, *_plane(inner))
    space = _space_behind(step.filter_, flat) if isinstance(step.op, ops.Conv) else x.space
    positions = int(np.prod(space))
    shape = (T, positions, len(step.scale_N))  # whole vectors
    currents, add = _NOTHING, step.stream is not None
    if step.stream is not None:
        before = values.reals[step.stream]
        space, currents = before.shape[1:-1], before.reshape(len(before), positions, step.outputs)
        if currents.shape != shape or not step.in_place:
            currents = values.room(step.name, shape, np.float32)
            currents[..., step.outputs :] = 0  # what fills up the columns must not fire
            currents[..., : step.outputs] = before.reshape(len(before), positions, step.outputs)
    elif step.result is not None:
        currents = values.room(step.name, shape, np.float32)
    if step.result is not None:
        values.output = currents[..., : step.outputs].reshape(T, *space, step.outputs)
        values.reals[step.result] = values.output
    out_index, out_count = _NO_LIST, _NO_COUNT
    if step.neuron is not None:
        out = values.room_for_spikes(step.neuron, T, space, step.outputs)
        out_index, out_count = out.index, out.count
    kernels.synapses(
        x.index, x.count, flat, step.filter_, step.weight_IN, step.scale_N, step.bias_N,
        currents, add, parameters(step.neuron), out_index, out_count,
    )  # fmt: skip


def _stretch(step: Stretch, values: Values) -> None:
    outputs = step.session.run(None, feeds(step, values))
    for name, out in zip(step.results, outputs, strict=True):
        values.output = values.reals[name] = out.reshape(-1, len(values.inputs), *out.shape[1:])
    for fire in step.fires:
        _fire(fire, values)


def feeds(step: Stretch, values: Values) -> dict[str, np.ndarray]:
    """Return what a stretch reads: levels and reals, (T * B, ...), repeated where they are constant over time."""
    given = {}
    for name, T in step.sources.items():
        x = values.spikes[name].dense() if name in values.spikes else values.reals[name]
        given[name] = np.broadcast_to(x, (T or len(x), *x.shape[1:])).reshape(-1, *x.shape[2:])
    return given


def _pooled_synapses(step: Synapses, neuron: ops.Neuron, values: Values) -> None:
    x = values.spikes[step.source]
    flat = (x.space[0], *_plane(x.space[1:]))
    space = _space_behind_pool(step.window, _space_behind(step.filter_, flat))
    out = values.room_for_spikes(neuron, len(x.count), space, step.outputs)
    kernels.pooled_synapses(
        x.index, x.count, flat, step.filter_, step.window, step.weight_IN, step.scale_N, step.bias_N,
        parameters(neuron), out.index, out.count, get_num_threads(),
    )  # fmt: skip


def _plane(inner: tuple[int, ...]) -> tuple[int, int]:
    """Return positions as rows and columns: tokens are one column."""
    return inner if len(inner) == 2 else (int(np.prod(inner)), 1)


def _space_behind(filter_: tuple[int, int, int], space: tuple[int, int, int]) -> tuple[int, int, int]:
    R, S, padding = filter_
    B, H, W = space
    return B, H + 2 * padding - R + 1, W + 2 * padding - S + 1


def _space_behind_pool(window: tuple[int, int, int], space: tuple[int, int, int]) -> tuple[int, int, int]:
    size, stride, padding = window
    B, H, W = space
    return B, (H + 2 * padding - size) // stride + 1, (W + 2 * padding - size) // stride + 1
