"""Run a `Graph` by its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Literal

import numba
import numpy as np

from spikeclip.engine.dense import dense_product
from spikeclip.engine.measure import Layer, measure, table
from spikeclip.engine.plan import Synapses, plan
from spikeclip.engine.run import Values, run_step
from spikeclip.errors import InputError, unknown
from spikeclip.graph.ops import Graph

PRECISIONS = ("fp32", "int8")
MODES = ("events", "dense", "auto")


class Engine:
    """An image or text tower on the CPU, event by event; needs no PyTorch.

    precision: `fp32` fires the spikes of `graph.execute` up to rounding; `int8` has weights of 8 bits, one scale
    per output channel, and integer sums that cannot overflow. The first convolution and the readout, whose
    inputs are no spikes, are fp32 in both. mode: `events`, `dense` (extra `onnx`), or `auto`, which takes for each
    layer what is faster on this machine, measured by `calibrate` (on the first batch, if it was not called before).
    threads: of numba's pool, None for all.
    """

    def __init__(
        self,
        graph: Graph,
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
        self.steps = plan(graph, precision)
        self.layers: list[Layer] = []
        self._workspace: dict[str, np.ndarray] = {}
        self._lock = Lock()
        if mode == "dense":
            for step in self.synapses():
                step.product = dense_product(step.weight_IN, self.threads)

    def synapses(self) -> list[Synapses]:
        """Return the layers whose input is spikes."""
        return [step for step in self.steps if isinstance(step, Synapses)]

    def __call__(
        self, inputs: np.ndarray, watch: Callable[[str, np.ndarray], None] | None = None
    ) -> np.ndarray:
        """Embed normalised pictures (B, H, W, C) or token ids (B, L) -> (B, embed_dim) float32.

        watch: called with the name of every layer of neurons and its spikes (T, B, ...), uint8.
        """
        if self.mode == "auto" and not self.layers:
            self.calibrate(inputs)
        with self._lock, _threads(self.threads):
            values = Values(inputs, self._workspace)
            for step in self.steps:
                run_step(step, values)
            if watch is not None:
                for name, spikes in values.spikes.items():
                    watch(name, spikes.dense())
            return values.output[0].copy()

    def calibrate(self, inputs: np.ndarray, repeats: int = 3) -> list[Layer]:
        """Time every layer on a batch like those to come, by events and dense, and set each to what `mode` says."""
        with _threads(self.threads):
            self.layers = measure(self.steps, Values(inputs), self.mode, self.threads, repeats)
        return self.layers

    def explain(self) -> str:
        """Return a table of the layers: density, sums per input, time by events and dense, and what is chosen."""
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
