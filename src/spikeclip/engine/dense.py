"""Stretches of layers that fire so much that adding rows does not pay: one OpenVINO graph each (extra `openvino`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from spikeclip.engine.openvino import load_openvino
from spikeclip.engine.openvino_graph import OpenVinoGraph
from spikeclip.engine.steps import NO_POOL, Attend, Dense, Filter, Fire, Plain, Step, Synapses
from spikeclip.graph import ops
from spikeclip.graph.ops import Graph
from spikeclip.graph.substeps import split_signed

_KEPT = 8
"""Compiled graphs that a stretch keeps, one for each shape of what the network reads."""


@dataclass(eq=False)
class Stretch:
    """Consecutive steps in one OpenVINO graph, whose values have the shape (T * B, ...)."""

    steps: Sequence[Step]
    graph: Graph
    """What the steps were planned from."""
    precision: str
    results: list[str]
    """What it computes for steps outside: real values, and levels that no list is needed of."""
    fires: list[Fire]
    """Neurons inside whose lists of spikes are read outside: the engine makes them of currents among `results`."""
    threads: int
    _requests: dict[tuple[int, ...], Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.steps[0].name} ... {self.steps[-1].name}"

    def __call__(self, read: Callable[[str], np.ndarray], given: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Compute the results, (T * B, ...).

        read: returns a value (T, B, ...), levels or reals. given: shape of what the network reads.
        """
        if given not in self._requests:
            if len(self._requests) == _KEPT:
                del self._requests[next(iter(self._requests))]
            self._requests[given] = self._compiled(given, profiled=False)
        names, request = self._requests[given]
        request.infer(_fed(names, request, read), share_inputs=True)
        return {name: request.get_output_tensor(i).data for i, name in enumerate(self.results)}

    def profile(
        self, read: Callable[[str], np.ndarray], given: tuple[int, ...], repeats: int
    ) -> dict[str, float]:
        """Return the least seconds that each layer took inside, by name."""
        names, request = self._compiled(given, profiled=True)
        fed, seconds = _fed(names, request, read), dict.fromkeys((step.name for step in self.steps), np.inf)
        for _ in range(repeats + 1):
            request.infer(fed, share_inputs=True)
            for node in request.profiling_info:
                name = node.node_name.partition("/")[0]
                if name in seconds:
                    seconds[name] = min(seconds[name], node.real_time.total_seconds())
        return seconds

    def _compiled(self, given: tuple[int, ...], profiled: bool) -> tuple[list[str], Any]:
        inside = {name for step in self.steps for name in _operations(step)}
        built = OpenVinoGraph(self.graph, self.precision, given, inside, self.results)
        options = {"INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": 1, "PERF_COUNT": profiled}
        request = built.compiled(options).create_infer_request()
        return list(built.sources), request


def _fed(names: Sequence[str], request: Any, read: Callable[[str], np.ndarray]) -> list[np.ndarray]:
    """Return what a stretch reads, in the shapes and types of its parameters."""
    wanted = [request.get_input_tensor(i).data for i in range(len(names))]
    return [np.require(read(n), x.dtype, ["C"]).reshape(x.shape) for n, x in zip(names, wanted, strict=True)]


def join(
    graph: Graph, precision: str, steps: Sequence[Step], dense: Collection[str], threads: int
) -> list[Step | Stretch]:
    """Make stretches of the layers of a plan named in `dense`, and of the neurons and attentions between them.

    Raises `InputError` without the extra `openvino`.
    """
    load_openvino()
    graph = split_signed(graph)
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
        results, fires = _read_outside(inside, lists, values)
        stretch = Stretch(inside, graph, precision, results, fires, threads)
        joined += [*run[:first], stretch, *run[last:]]
    return joined


def _read_outside(
    steps: Sequence[Step], lists: Collection[str], values: Collection[str]
) -> tuple[list[str], list[Fire]]:
    """Return the results of a stretch and the neurons that the engine fires, by what is read outside."""
    fires = [
        Fire(neuron, _current(step), step.window if isinstance(step, (Fire, Synapses)) else NO_POOL)
        for step in steps
        if (neuron := _neuron_of(step)) is not None and neuron.name in lists
    ]
    read = {*values, *(fire.source for fire in fires)}
    results = [_current(step) for step in steps if not isinstance(step, Fire) and _current(step) in read]
    results += [n.name for step in steps if (n := _neuron_of(step)) is not None and n.name in values]
    return results, fires


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
    """Return the name of the real value that a step computes, or fires from; behind it only a max-pool."""
    if isinstance(step, Fire):
        return step.source
    return step.target if isinstance(step, Synapses) and step.window == NO_POOL else step.name


def _operations(step: Step) -> list[str]:
    neuron = _neuron_of(step)
    computed = [] if isinstance(step, Fire) else [step.name, _current(step)]
    return [*computed, *([neuron.name] if neuron is not None else [])]


def _neuron_of(step: Step) -> ops.Neuron | None:
    if isinstance(step, Fire):
        return step.op
    return step.neuron if isinstance(step, (Synapses, Attend)) else None
