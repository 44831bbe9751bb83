"""From a graph to the engine's steps: which operations one pass over the positions does together."""

from __future__ import annotations

import numpy as np

from spikeclip.engine.neuron import NEVER
from spikeclip.engine.steps import NO_POOL, Attend, Dense, Filter, Fire, Plain, Step, Synapses
from spikeclip.engine.vector import LIST_LANES, empty
from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.check import check
from spikeclip.graph.ops import Graph, Op
from spikeclip.graph.shapes import paddings
from spikeclip.graph.store import quantize
from spikeclip.graph.substeps import split_signed

LONGEST = 2**30
"""Entries of a list of spikes, which 32 bits count."""


def plan(graph: Graph, precision: str) -> list[Step]:
    """Check a graph and group its operations into steps; signed neurons become twice as many channels.

    Raises `InputError` for a graph that the engine cannot run.
    """
    return _Planner(split_signed(graph), precision).steps


class _Planner:
    """The steps so far, and what later operations need to know about the earlier ones."""

    def __init__(self, graph: Graph, precision: str) -> None:
        self.graph, self.precision = graph, precision
        self.shapes = check(graph)
        self.place = {op.name: i for i, op in enumerate(graph.ops)}
        neurons = [op for op in graph.ops if isinstance(op, ops.Neuron)]
        for neuron in neurons:
            _check_neuron(neuron, self.shapes[neuron.name])
        self.spiking = {neuron.name for neuron in neurons}
        last = graph.ops[-1]
        if isinstance(last, (ops.Neuron, ops.MaxPool, ops.Attention)) or self._renames(last):
            raise InputError(f"{last.name}: the engine needs another operation at the end of a graph")
        self.alias: dict[str, str] = {}
        """Values behind an operation that only takes positions for tokens, and the value before it."""
        self.done: set[str] = set()
        """Operations that an earlier step includes."""
        self.steps: list[Step] = []
        for op in graph.ops:
            if op.name not in self.done:
                self._add(op)

    def _add(self, op: Op) -> None:
        spikes = bool(op.inputs) and self._source(op.inputs[0]) in self.spiking
        if isinstance(op, ops.Neuron):
            self.steps.append(self._fire(op))
        elif isinstance(op, ops.Depthwise):
            self.steps.append(self._filter(op))
        elif isinstance(op, ops.Conv) and (op.stride != 1 or len(set(paddings(op))) > 1):
            if spikes:
                raise InputError(
                    f"{op.name}: the engine runs convolutions of spikes with stride 1 and the same padding on all sides"
                )
            self.steps.append(Plain(op, (self._source(op.inputs[0]),), (False,)))
        elif isinstance(op, (ops.Conv, ops.Linear)):
            self.steps.append(self._synapses(op) if spikes else self._dense(op))
        elif isinstance(op, ops.Attention):
            self.steps.append(self._attend(op))
        elif isinstance(op, ops.MaxPool):
            if not all(isinstance(r, ops.Neuron) for r in self.graph.readers(op.name)):
                raise InputError(f"{op.name}: the engine needs a neuron behind a max-pool")
        elif self._renames(op):
            self.alias[op.name] = self._source(op.inputs[0])
        else:
            sources = tuple(self._source(name) for name in op.inputs)
            tokens = tuple(len(self.shapes[name]) == 3 for name in op.inputs)
            self.steps.append(Plain(op, sources, tokens))

    def _fire(self, op: ops.Neuron) -> Fire:
        first = self._source(op.inputs[0])
        before, window = self.graph[first], NO_POOL
        if isinstance(before, ops.MaxPool):
            first, window = self._source(before.inputs[0]), _window(before)
        if first in self.spiking:
            raise InputError(f"{op.name}: the engine needs currents before a neuron, {first} are spikes")
        return Fire(op, first, window)

    def _synapses(self, op: ops.Conv | ops.Linear) -> Synapses:
        """Group a layer that reads spikes with the residual add or max-pool and the neuron that follow it."""
        target, stream, in_place, window = op, None, False, NO_POOL
        readers = self._readers(op.name)
        if len(readers) == 1 and isinstance(add := readers[0], ops.Add) and (before := self._stream(op, add)):
            target, stream = add, before
            in_place = self._last(stream, op, add)
            self.done.add(target.name)
        elif len(readers) == 1 and isinstance(pool := readers[0], ops.MaxPool) and self._fires(pool):
            target, window = pool, _window(pool)
            self.done.add(target.name)
        neuron = self._neuron(target)
        others = [r for r in self._readers(target.name) if r is not neuron]
        if neuron is not None:
            self.done.add(neuron.name)
        weight_IO, scale_O = _rows(op), np.ones(len(op.bias_O), np.float32)
        if len(weight_IO) > np.iinfo(np.uint16).max:
            raise InputError(f"{op.name}: {len(weight_IO)} weight rows, but a list of spikes can name 65,535")
        if self.precision == "int8":
            weight_IO, scale_O = quantize(weight_IO)
        return Synapses(
            op=op,
            source=self._source(op.inputs[0]),
            stream=stream,
            in_place=in_place,
            target=target.name,
            result=target.name if others or target is self.graph.ops[-1] else None,
            neuron=neuron,
            window=window,
            filter_=_filter(op),
            plane=self._plane(op),
            weight_IN=_fill(weight_IO),
            scale_N=_fill(scale_O),
            bias_N=_fill(op.bias_O, NEVER),
            outputs=len(op.bias_O),
        )

    def _stream(self, op: Op, add: ops.Add) -> str | None:
        """Return the value that an operation's output is added to, where it is real and there already."""
        others = [self._source(name) for name in add.inputs if name != op.name]
        there = len(others) == 1 and self.place[others[0]] < self.place[op.name]
        return others[0] if there and others[0] not in self.spiking else None

    def _last(self, stream: str, op: Op, add: ops.Add) -> bool:
        """Whether nothing reads a stream after `op`, and no other value shares its memory."""
        late = [r for r in self._readers(stream) if self.place[r.name] > self.place[op.name]]
        return late == [add] and not isinstance(self.graph[stream], (ops.Image, ops.Reshape))

    def _dense(self, op: ops.Conv | ops.Linear) -> Dense:
        constant = isinstance(op, ops.Conv) and self.shapes[op.inputs[0]][0] == 1
        weight_IN, bias_N = _fill(_rows(op)), _fill(op.bias_O)
        source = self._source(op.inputs[0])
        return Dense(op, source, _filter(op), self._plane(op), weight_IN, bias_N, constant)

    def _filter(self, op: ops.Depthwise) -> Filter:
        source = self._source(op.inputs[0])
        if source not in self.spiking:
            raise InputError(f"{op.name}: the engine needs neurons before a depthwise convolution")
        R, S, C = op.weight_RSC.shape
        weight_NC, scale_C = op.weight_RSC.reshape(-1, C), np.ones(C, np.float32)
        if self.precision == "int8":
            weight_NC, scale_C = quantize(weight_NC)
        weight_RSC = np.ascontiguousarray(weight_NC.reshape(R, S, C), np.float32)
        return Filter(op, source, weight_RSC, scale_C, self.shapes[op.name][1:])

    def _attend(self, op: ops.Attention) -> Attend:
        neuron = self._neuron(op)
        if neuron is None or len(self._readers(op.name)) > 1:
            raise InputError(f"{op.name}: the engine needs one neuron behind attention")
        if not self.spiking.issuperset(op.inputs[:3]):
            raise InputError(f"{op.name}: the engine needs neurons before attention")
        self.done.add(neuron.name)
        mask = self._source(op.inputs[3]) if len(op.inputs) > 3 else None
        return Attend(op, neuron, mask, self.shapes[op.name][-1])

    def _source(self, name: str) -> str:
        return self.alias.get(name, name)

    def _readers(self, name: str) -> list[Op]:
        """Return what reads a value, looking through operations that only rename it."""
        readers, names = [], {name}
        for op in self.graph.ops:
            if names.intersection(op.inputs):
                if self._renames(op):
                    names.add(op.name)
                else:
                    readers.append(op)
        return readers

    def _renames(self, op: Op) -> bool:
        """Whether an operation only takes positions for tokens."""
        return isinstance(op, ops.Reshape) and op.shape == (-1, self.shapes[op.inputs[0]][-1])

    def _neuron(self, op: Op) -> ops.Neuron | None:
        """Return the neuron that reads an operation, where there is just one."""
        readers = [r for r in self._readers(op.name) if isinstance(r, ops.Neuron)]
        return readers[0] if len(readers) == 1 else None

    def _fires(self, pool: ops.MaxPool) -> bool:
        """Whether one neuron reads a max-pool, and nothing else."""
        return [self._neuron(pool)] == self._readers(pool.name)

    def _plane(self, op: ops.Conv | ops.Linear) -> tuple[int, int]:
        """Return the rows and columns that a convolution reads; a linear map reads one position."""
        if isinstance(op, ops.Linear):
            return 1, 1
        _, H, W, _ = self.shapes[op.inputs[0]]
        return H, W


def _window(op: ops.MaxPool) -> tuple[int, int, int]:
    return op.size, op.stride, op.padding


def _check_neuron(op: ops.Neuron, shape: tuple[int, ...]) -> None:
    if op.kind == "relu":
        raise InputError(f"{op.name}: the engine runs spiking networks; this one has ReLU activations")
    if op.substeps > 1:
        raise InputError(
            f"{op.name}: give the engine the graph without sub-steps; its spikes are binary already"
        )
    if shape[-1] > np.iinfo(np.uint16).max:
        raise InputError(f"{op.name}: {shape[-1]} channels, but a list of spikes can name 65,535")
    line = (shape[-2] if len(shape) == 4 else 1) * shape[-1] * (op.D if op.kind == "ilif" else 1)
    if line > LONGEST:
        raise InputError(f"{op.name}: {line} spikes of a line, but a list has at most {LONGEST}")


def _rows(op: ops.Conv | ops.Linear) -> np.ndarray:
    weight = op.weight_RSIO if isinstance(op, ops.Conv) else op.weight_IO
    return weight.reshape(-1, weight.shape[-1])


def _filter(op: ops.Conv | ops.Linear) -> tuple[int, int, int]:
    if isinstance(op, ops.Linear):
        return 1, 1, 0
    return op.weight_RSIO.shape[0], op.weight_RSIO.shape[1], op.padding


def _fill(x: np.ndarray, value: float | np.float32 = 0) -> np.ndarray:
    """Fill up the outputs, the last axis, to whole vectors."""
    width = x.shape[-1]
    filled = empty((*x.shape[:-1], width + -width % LIST_LANES), x.dtype)
    filled[..., :width], filled[..., width:] = x, value
    return filled
