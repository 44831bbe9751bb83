"""Stretches of layers that fire so much that adding rows does not pay: one ONNX Runtime graph each (extra `onnx`).

The arithmetic is in `onnx_graph`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from typing import Any

import numpy as np

from spikeclip.engine import onnx_graph
from spikeclip.engine.steps import NO_POOL, Attend, Dense, Filter, Fire, Plain, Step, Synapses
from spikeclip.errors import missing_extra
from spikeclip.graph import ops


def has_onnx_runtime() -> bool:
    """Whether ONNX Runtime and the package that describes a graph to it are installed."""
    return find_spec("onnx") is not None and find_spec("onnxruntime") is not None


@dataclass(eq=False)
class Stretch:
    """Consecutive steps in one ONNX graph, whose values have the shape (T * B, ...)."""

    steps: Sequence[Step]
    sources: dict[str, int | None]
    """What it reads, spikes as levels and real values, and to how many time steps that is repeated, if at all."""
    results: list[str]
    """What it computes for steps outside: real values, and levels that no list is needed of."""
    fires: list[Fire]
    """Neurons inside whose lists of spikes are read outside: the engine makes them of currents among `results`."""
    session: Any
    """The `onnxruntime.InferenceSession`: sources in, results out."""

    @property
    def name(self) -> str:
        return f"{self.steps[0].name} ... {self.steps[-1].name}"


def join(steps: Sequence[Step], dense: Collection[str], threads: int) -> list[Step | Stretch]:
    """Make stretches of the layers named in `dense` and of the neurons and attentions between them.

    Raises `InputError` without the extra `onnx`.
    """
    T = _time(steps)
    joined: list[Step | Stretch] = []
    for joins, group in groupby(steps, lambda step: isinstance(step, (Fire, Attend)) or step.name in dense):
        run = list(group)
        layers = [i for i, step in enumerate(run) if step.name in dense] if joins else []
        if not layers:
            joined += run
            continue
        first, last = layers[0], layers[-1] + 1
        if first > 0 and isinstance(run[first - 1], Fire):  # reads currents: no list to make and to unpack
            first -= 1
        inside = run[first:last]
        lists, values = set(), set()
        for step in steps:
            if step not in inside:
                lists |= _lists_read(step)
                values |= _values_read(step)
        if isinstance(steps[-1], (Dense, Synapses)):
            values.add(_current(steps[-1]))
        joined += [*run[:first], stretch(inside, T, lists, values, threads), *run[last:]]
    return joined


def _lists_read(step: Step) -> set[str]:
    if isinstance(step, Attend):
        return set(step.op.inputs[:3])
    return {step.source} if isinstance(step, Synapses) else set()


def _values_read(step: Step) -> set[str]:
    if isinstance(step, Plain):
        return set(step.sources)
    if isinstance(step, (Dense, Filter, Fire)):
        return {step.source}
    return {(step.stream if isinstance(step, Synapses) else step.mask) or ""}


def _current(step: Step) -> str:
    """Return the name of the real value that a step computes, or fires from."""
    if isinstance(step, Fire):
        return step.source
    return (step.result if isinstance(step, Synapses) else None) or step.name


def alone(step: Synapses, steps: Sequence[Step], threads: int) -> Stretch:
    """Return the stretch of one layer of `steps`, from levels to currents."""
    return stretch([step], _time(steps), (), {_current(step)}, threads)


def _time(steps: Sequence[Step]) -> int:
    return max((neuron.T for step in steps if (neuron := _neuron_of(step)) is not None), default=1)


def stretch(
    steps: Sequence[Step], T: int, lists: Collection[str], values: Collection[str], threads: int
) -> Stretch:
    """Build the ONNX graph of `steps`; others read their spikes as `lists` and real values or levels as `values`.

    Raises `InputError` without the extra `onnx`.
    """
    if not has_onnx_runtime():
        raise missing_extra("onnx and onnxruntime", "onnx")
    graph = onnx_graph.OnnxGraph(None if all(isinstance(step, Dense) for step in steps) else T)
    fires: list[Fire] = []
    results: dict[str, type[np.generic]] = {}
    for step in steps:
        current, neuron = _current(step), _neuron_of(step)
        window = step.window if isinstance(step, (Fire, Synapses)) else NO_POOL
        if isinstance(step, Dense):
            graph.values[current] = onnx_graph.dense(graph, step)
        elif isinstance(step, Synapses):
            graph.values[current] = onnx_graph.synapses(graph, step)
        elif isinstance(step, Attend):
            graph.values[current] = onnx_graph.attention(graph, step)
        x = graph.read(current)
        if neuron is not None:
            graph.values[neuron.name] = onnx_graph.neuron(graph, neuron, x, window)
            if neuron.name in values:
                results[neuron.name] = np.uint8
            if neuron.name in lists:
                fires.append(Fire(neuron, current, window))
        read = current in values or any(fire.source == current for fire in fires)
        if read and current not in graph.sources:
            results[current] = np.float32
    session = graph.session(results, threads)
    sources = {name: T for name, (_, T) in graph.sources.items()}
    return Stretch(steps, sources, list(results), fires, session)


def _neuron_of(step: Step) -> ops.Neuron | None:
    if isinstance(step, Fire):
        return step.op
    return step.neuron if isinstance(step, (Synapses, Attend)) else None
