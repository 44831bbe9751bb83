"""Run a `Graph` by its events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Generic, Literal, cast

import numba
import numpy as np

from spikeclip.engine.choice import choice_key, load_choice, save_choice
from spikeclip.engine.dense import Stretch, join
from spikeclip.engine.measure import Layer, clearly_fastest, measure, profile, race, table, whole_profile
from spikeclip.engine.openvino import has_openvino
from spikeclip.engine.plan import plan
from spikeclip.engine.run import Values, kernels_of, run_step
from spikeclip.engine.steps import Dense, Step, Synapses
from spikeclip.engine.threads import compile_kernels
from spikeclip.engine.whole import Whole, fits
from spikeclip.errors import InputError, unknown
from spikeclip.graph.inputs import check_pixels, normalized
from spikeclip.graph.ops import Depthwise, Graph, Image, InputOp, Neuron

PRECISIONS = ("fp32", "int8")
MODES = ("events", "dense", "auto")
WORTH_MEASURING = 16
"""Texts of a first batch from which on measuring pays: it takes a second, and few texts are fast by events."""


class Engine(Generic[InputOp]):
    """An image or text tower on the CPU, event by event; needs no PyTorch.

    precision: `fp32` fires the spikes of `graph.execute` up to rounding; `int8` has weights of 8 bits, one scale
    per output channel, and integer sums that cannot overflow. The first convolution and the readout, whose
    inputs are no spikes, are fp32 in both. mode: `events`, `dense` (extra `openvino`), or `auto`, which takes what
    is faster on this machine: what `calibrate` measures on the first batch, or measured in an earlier process. A first
    batch of fewer than `WORTH_MEASURING` texts is not measured: then all run by events, so that equal inputs give
    equal outputs, until `calibrate` is called; nor is a network of several time steps, which sums all weights at each
    of them where it runs dense. An image tower runs dense as one OpenVINO graph (see `whole`), one with
    depthwise convolutions in `auto` too, unmeasured; int8 rounds its first convolution where that sums pixels as bytes.
    threads: of numba's pool, None for all.
    """

    def __init__(
        self,
        graph: Graph[InputOp],
        *,
        precision: Literal["fp32", "int8"] = "int8",
        mode: Literal["events", "dense", "auto"] = "auto",
        threads: int | None = None,
    ) -> None:
        for name, value, known in (("precision", precision, PRECISIONS), ("mode", mode, MODES)):
            if value not in known:
                raise unknown(name, value, known)
        most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
        if threads is not None and not 1 <= threads <= most:
            raise InputError(f"threads must be between 1 and {most} on this machine, got {threads}")
        self.graph, self.precision, self.mode, self.threads = graph, precision, mode, threads or most
        self.by_events = plan(graph, precision)
        self.kernels = kernels_of(self.by_events)
        self.steps: Sequence[Step | Stretch] = self.by_events
        self.layers: list[Layer] = []
        self._workspace: dict[str, np.ndarray] = {}
        self._lock = Lock()
        self._signed = {op.name for op in graph.ops if isinstance(op, Neuron) and op.signed}
        self.whole: Whole | None = None
        """The whole network dense, where that runs."""
        one_step = all(op.T == 1 for op in graph.ops if isinstance(op, Neuron))
        measured = mode == "auto" and one_step and has_openvino()
        self._chosen = not measured
        if mode == "dense" or (
            measured and any(isinstance(op, Depthwise) for op in graph.ops) and fits(graph)
        ):
            self._run_layers(self._all())
            self._chosen = True
            if self.whole is not None:
                self.whole.start()

    def synapses(self) -> list[Synapses]:
        """Return the layers whose input is spikes."""
        return [step for step in self.by_events if isinstance(step, Synapses)]

    def _all(self) -> set[str]:
        """Return all layers, with the real-valued: numba's idle threads spin on the cores that OpenVINO needs."""
        return {step.name for step in self.by_events if isinstance(step, (Synapses, Dense))}

    def _run_layers(self, dense: Collection[str]) -> None:
        """Let these layers run dense, and the others by events."""
        self.whole = None
        if set(dense) == self._all() and fits(self.graph):
            self.whole = Whole(cast(Graph[Image], self.graph), self.precision, self.threads)
        else:
            self.steps = self._join(dense)

    def _join(self, dense: Collection[str]) -> Sequence[Step | Stretch]:
        return (
            join(self.graph, self.precision, self.by_events, dense, self.threads) if dense else self.by_events
        )

    def __call__(
        self, inputs: np.ndarray, watch: Callable[[str, np.ndarray], None] | None = None
    ) -> np.ndarray:
        """Embed pictures (B, H, W, C), uint8 or normalised, or token ids (B, L) -> (B, embed_dim) float32.

        watch: called with the name of every layer of neurons and its spikes (T, B, ...), uint8, of signed ones int16;
        then every layer runs by its events. Raises `InputError` for inputs that the graph does not read, see
        `graph.execute`.
        """
        inputs = np.atleast_1d(inputs)
        if watch is None and not self._chosen:
            self._choose(inputs)
        if self.whole is not None and watch is None:
            return self.whole(inputs)
        inputs = self._read(inputs)
        compile_kernels(self.kernels)
        with self._lock, _threads(self.threads):
            if watch is None:
                return self._run(self.steps, inputs).output[0].copy()
            values = self._run(self.by_events, inputs)
            for name, spikes in values.spikes.items():
                level = spikes.dense()
                if name in self._signed:
                    on, off = np.split(level.astype(np.int16), 2, -1)
                    level = on - off
                watch(name, level)
            return values.output[0].copy()

    def _choose(self, inputs: np.ndarray) -> None:
        saved = load_choice(self._key(inputs))
        if saved is not None and set(saved) <= self._all():
            self._run_layers(saved)
        elif isinstance(self.graph.input, Image) or len(inputs) >= WORTH_MEASURING:
            self.calibrate(inputs)
        self._chosen = True

    def _read(self, inputs: np.ndarray) -> np.ndarray:
        picture = self.graph.input
        if not isinstance(picture, Image) or inputs.dtype != np.uint8:
            return inputs
        check_pixels(picture, inputs)
        return normalized(picture, inputs)

    def _key(self, inputs: np.ndarray) -> str:
        return choice_key(self.graph, self.precision, self.threads, len(inputs))

    def _run(self, steps: Sequence[Step | Stretch], inputs: np.ndarray) -> Values:
        values = Values(inputs, self._workspace)
        for step in steps:
            run_step(step, values)
        return values

    def calibrate(self, inputs: np.ndarray, repeats: int = 7) -> list[Layer]:
        """Time every layer on a batch like those to come, by events and dense, and choose what runs (mode `auto`).

        The choice is between events alone, stretches of the layers that are clearly faster dense, and dense
        everywhere: events, unless the whole network is clearly faster otherwise. It is kept for later processes.
        """
        given = np.atleast_1d(inputs)
        inputs = self._read(given)
        compile_kernels(self.kernels)
        dense = self.mode != "events" and has_openvino()
        with self._lock, _threads(self.threads):
            values = Values(inputs)
            everywhere = self._join(self._all()) if dense else []
            self.layers = measure(self.by_events, values, everywhere, repeats)
        if self.mode == "auto" and dense:
            layers: dict[str, set[str]] = {
                "events": set(),
                "stretches": {layer.name for layer in self.layers if layer.faster_dense},
                "dense": self._all(),
            }
            runs: dict[str, Callable[[], object]] = {}
            for name, chosen in layers.items():
                self._run_layers(chosen)
                runs[name] = (self.whole and partial(self.whole, given)) or partial(
                    self._run, self.steps, inputs
                )
            with self._lock, _threads(self.threads):
                best = layers[clearly_fastest(race(runs, repeats, pause=0.05, warm=0.01))]
            self._run_layers(best)
            self._chosen = True
            save_choice(self._key(given), best)
        with self._lock, _threads(self.threads):
            if self.whole is not None:
                self.layers = whole_profile(self.whole, given, self.layers, repeats)
            else:
                self.layers = profile(self.steps, values, self.layers, repeats)
        return self.layers

    def explain(self) -> str:
        """Return a table of the layers: density, sums per input, time by events and dense, and the stretches."""
        if not self.layers:
            raise InputError(
                "nothing is measured yet: call calibrate(inputs) with a batch like those to come"
            )
        return table(self.layers)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before)
