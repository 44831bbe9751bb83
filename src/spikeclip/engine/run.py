"""Run one step of a plan: unpack its inputs, call its kernel, keep its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from spikeclip.engine import kernels
from spikeclip.engine.attention import attend, keys_by_values
from spikeclip.engine.dense import Stretch
from spikeclip.engine.depthwise import filter_channels
from spikeclip.engine.neuron import SLACK, parameters
from spikeclip.engine.steps import NO_POOL, Attend, Dense, Filter, Fire, Plain, Step, Synapses
from spikeclip.engine.threads import Kernel
from spikeclip.engine.vector import empty
from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.execute import run_op

_NOTHING = np.zeros((0, 0, 0, 0), np.float32)
_NO_LIST, _NO_ENDS = np.zeros((0, 0, 0), np.uint16), np.zeros((0, 0, 0), np.int32)


@dataclass
class Spikes:
    """Lists of spikes, as `kernels` has them, at positions `space` (B, ...) of `width` channels."""

    index: np.ndarray
    ends: np.ndarray
    space: tuple[int, ...]
    width: int

    def dense(self) -> np.ndarray:
        """Return the levels (T, *space, width) as uint8."""
        lines, T, places = self.ends.shape
        level_TLXN = np.empty((T, lines, places - 1, self.width), np.uint8)
        kernels.levels_of(lines, self.index, self.ends, level_TLXN)
        return level_TLXN.reshape(T, *self.space, self.width)

    @property
    def flat(self) -> tuple[int, int, int]:
        """Pictures or texts, lines of each, and positions of a line."""
        B, places = self.space[0], self.ends.shape[2] - 1
        return B, len(self.ends) // B, places


@dataclass
class Values:
    """What a run has computed so far, by name."""

    inputs: np.ndarray
    workspace: dict[str, np.ndarray] = field(default_factory=dict)
    """Arrays of an earlier run of the same engine, to be written over: new memory costs a page fault per 4 KB."""
    reals: dict[str, np.ndarray] = field(default_factory=dict)
    spikes: dict[str, Spikes] = field(default_factory=dict)
    output: np.ndarray = field(default_factory=lambda: _NOTHING)

    def read(self, name: str) -> np.ndarray:
        """Return a value (T, B, ...): levels of spikes, or reals."""
        return self.spikes[name].dense() if name in self.spikes else self.reals[name]

    def room(self, name: str, shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
        """Return an array for `name`, of any content; the same one as in an earlier run where it fits."""
        array = self.workspace.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self.workspace[name] = empty(shape, dtype)
        return array

    def room_for_spikes(
        self, op: ops.Neuron, T: int, space: tuple[int, ...], places: int, width: int
    ) -> Spikes:
        """Return lists of any content, of lines of `places` positions, for a layer of neurons; keep them as its."""
        lines, levels = int(np.prod(space)) // places, op.D if op.kind == "ilif" else 1
        index = self.room(f"{op.name} index", (lines, T, places * width * levels + SLACK), np.uint16)
        ends = self.room(f"{op.name} ends", (lines, T, places + 1), np.int32)
        self.spikes[op.name] = Spikes(index, ends, space, width)
        return self.spikes[op.name]


def kernels_of(steps: Sequence[Step | Stretch]) -> list[Kernel]:
    """Return the kernels that steps run."""
    found = [kernels.levels_of]
    for step in steps:
        if isinstance(step, Synapses):
            pooled = step.window != NO_POOL and step.neuron is not None
            found.append((kernels.pooled_synapses if pooled else kernels.synapses)[step.weight_IN.dtype.name])
        elif isinstance(step, Dense):
            found.append(kernels.dense_conv)
        elif isinstance(step, Filter):
            found.append(filter_channels)
        elif isinstance(step, Attend):
            found += [keys_by_values, attend]
        elif isinstance(step, Fire) or (isinstance(step, Stretch) and step.fires):
            found.append(kernels.pool_and_fire)
    return found


def run_step(step: Step | Stretch, values: Values) -> None:
    """Run one step; its output is added to `values`."""
    if isinstance(step, Plain):
        given = [values.read(name) for name in step.sources]
        for i, tokens in enumerate(step.tokens):
            if tokens:
                given[i] = given[i].reshape(*given[i].shape[:2], -1, given[i].shape[-1])
        values.output = values.reals[step.name] = run_op(step.op, *(given or [values.inputs[None]]))
    elif isinstance(step, Dense):
        _dense(step, values)
    elif isinstance(step, Filter):
        _filter(step, values)
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
    """Run in a kernel of the engine: BLAS would leave threads behind that spin on the cores the next layers need."""
    x = values.reals[step.source]
    conv = isinstance(step.op, ops.Conv)
    T, B = x.shape[:2]
    flat = (T * B, *x.shape[2:]) if conv else (x[..., 0].size, 1, 1, x.shape[-1])
    space = _space_behind(step.filter_, flat[:3])
    out = values.room(step.name, (int(np.prod(space)), len(step.op.bias_O)), np.float32)
    x_BHWI = np.require(x, np.float32, ["C", "W"]).reshape(flat)
    kernels.dense_conv(space[0] * space[1], x_BHWI, step.weight_IN, step.bias_N, step.filter_, out)
    shape = (T, B, *space[1:]) if conv else x.shape[:-1]
    values.output = values.reals[step.name] = out.reshape(*shape, -1)


def _filter(step: Filter, values: Values) -> None:
    level_TBHWC = values.spikes[step.source].dense()
    T, B = level_TBHWC.shape[:2]
    out = values.room(step.name, (T * B, *step.space), np.float32)
    level = level_TBHWC.reshape(T * B, *level_TBHWC.shape[2:])
    start = step.op.padding, step.op.stride, 0
    filter_channels(
        len(out) * step.space[0], level, step.weight_RSC, step.scale_C, step.op.bias_C, start, out
    )
    values.output = values.reals[step.name] = out.reshape(T, B, *step.space)


def _fire(step: Fire, values: Values) -> None:
    currents = values.reals[step.source]
    B, N = currents.shape[1], currents.shape[-1]
    inner = currents.shape[2:-1]
    H, W = _plane(inner)
    space = _space_behind_pool(step.window, (B, H, W)) if step.window != NO_POOL else (B, *inner)
    out = values.room_for_spikes(step.op, step.op.T, space, _plane(space[1:])[1], N)
    kernels.pool_and_fire(
        len(out.ends),
        np.require(currents, np.float32, ["C", "W"]).reshape(len(currents), B, H, W, N),
        step.window,
        parameters(step.op),
        out.index,
        out.ends,
    )


def _attend(step: Attend, values: Values) -> None:
    q, k, v = (values.spikes[name] for name in step.op.inputs[:3])
    if not q.ends.shape == k.ends.shape == v.ends.shape:
        raise InputError(f"{step.name}: the engine needs q, k and v of tokens in the same order of lines")
    shape = (q.space[0], int(np.prod(q.space[1:])))
    mask_BN = np.ones(shape, np.bool_) if step.mask is None else values.reals[step.mask][0]
    mask_BN = np.require(mask_BN, np.bool_, ["C", "W"])
    out = values.room_for_spikes(step.neuron, step.neuron.T, q.space, q.flat[2], q.width)
    head = q.width // step.op.num_heads
    rows = step.neuron.T * shape[0] * q.width
    kv_RD = values.room("k^T v", (rows, head + -head % 16), np.float32)
    keys_by_values(
        step.neuron.T * shape[0], k.index, k.ends, v.index, v.ends, mask_BN, step.op.num_heads, kv_RD
    )
    attend(
        len(q.ends), q.index, q.ends, kv_RD, shape[1], step.op.num_heads, step.op.scale,
        parameters(step.neuron), out.index, out.ends,
    )  # fmt: skip


def _synapses(step: Synapses, values: Values) -> None:
    x = values.spikes[step.source]
    T = x.ends.shape[1]
    B, H, W = _space_behind(step.filter_, x.flat)
    space = (B, H, W) if isinstance(step.op, ops.Conv) else x.space
    shape = (B * H, W, T, len(step.scale_N))  # whole vectors
    currents, add = _NOTHING, step.stream is not None
    if step.stream is not None:
        before = values.reals[step.stream]
        space, before = before.shape[1:-1], np.moveaxis(before, 0, -2)
        if step.in_place and before.flags.c_contiguous and before.shape[-2:] == shape[-2:]:
            currents = before.reshape(shape)
        else:
            currents = values.room(step.name, shape, np.float32)
            currents[..., step.outputs :] = 0  # what fills up the columns must not fire
            currents[..., : step.outputs] = before.reshape(*shape[:2], -1, step.outputs)
    elif step.result is not None:
        currents = values.room(step.name, shape, np.float32)
    if step.result is not None:
        result = currents[..., : step.outputs].reshape(*space, T, step.outputs)
        values.output = values.reals[step.result] = np.moveaxis(result, -2, 0)
    out_index, out_ends = _NO_LIST, _NO_ENDS
    if step.neuron is not None:
        out = values.room_for_spikes(step.neuron, T, space, W, step.outputs)
        out_index, out_ends = out.index, out.ends
    kernels.synapses[step.weight_IN.dtype.name](
        B * H, x.index, x.ends, x.flat, step.filter_, step.weight_IN, step.scale_N, step.bias_N,
        currents, add, parameters(step.neuron), step.outputs, out_index, out_ends,
    )  # fmt: skip


def _stretch(step: Stretch, values: Values) -> None:
    for name, out in step(values.read, values.inputs.shape).items():
        values.output = values.reals[name] = out.reshape(-1, len(values.inputs), *out.shape[1:])
    for fire in step.fires:
        _fire(fire, values)


def _pooled_synapses(step: Synapses, neuron: ops.Neuron, values: Values) -> None:
    x = values.spikes[step.source]
    space = _space_behind_pool(step.window, _space_behind(step.filter_, x.flat))
    out = values.room_for_spikes(neuron, x.ends.shape[1], space, space[2], step.outputs)
    kernels.pooled_synapses[step.weight_IN.dtype.name](
        len(out.ends), x.index, x.ends, x.flat, step.filter_, step.window, step.weight_IN, step.scale_N, step.bias_N,
        parameters(neuron), step.outputs, out.index, out.ends,
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
