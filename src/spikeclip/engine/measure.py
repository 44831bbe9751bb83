"""Where the engine's time goes, and which layers are faster by events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from spikeclip.engine.dense import Stretch
from spikeclip.engine.run import Values, run_step
from spikeclip.engine.steps import Step, Synapses
from spikeclip.engine.whole import Whole

MARGIN = 0.95
"""Share of the time of events below which something else counts as faster: less is noise."""


@dataclass(frozen=True)
class Layer:
    """One step of a run on a batch, or a stretch, which comes before its steps."""

    name: str
    chosen: str
    """events, dense (the steps of a stretch), stretch, or the kind of a step that has no choice."""
    density: float | None
    """Share of inputs that are not zero, of layers that read spikes."""
    rate: float | None
    """Mean spikes per input and time step."""
    accumulates: float
    """Weight additions by events, for one input (picture or text)."""
    seconds: float | None
    """Time of the batch, as chosen; None inside a stretch."""
    seconds_events: float | None
    seconds_dense: float | None
    """Time of the layer where all layers run dense, as OpenVINO counts it."""

    @property
    def faster_dense(self) -> bool:
        if self.seconds_events is None or self.seconds_dense is None:
            return False
        return clearly_fastest({"events": self.seconds_events, "dense": self.seconds_dense}) == "dense"


def measure(
    steps: Sequence[Step], values: Values, everywhere: Sequence[Step | Stretch], repeats: int
) -> list[Layer]:
    """Time every step by its events and, in the stretches of `everywhere`, every layer dense; fills `values`."""
    layers = []
    for step in steps:
        if not isinstance(step, Synapses):
            seconds = race({"": partial(run_step, step, values)}, repeats)[""]
            layers.append(Layer(step.name, type(step).__name__.lower(), None, None, 0.0, seconds, None, None))
            continue
        stream = values.reals[step.stream] if step.stream is not None else None

        def by_events(step: Synapses = step, stream: np.ndarray | None = stream) -> None:
            if step.stream is not None and stream is not None:  # the step adds into the stream
                values.reals[step.stream] = stream.copy(order="K")
            run_step(step, values)

        seconds = race({"": by_events}, repeats)[""]
        spikes = values.spikes[step.source]
        level, taps = spikes.dense(), step.filter_[0] * step.filter_[1]
        sums = float(spikes.ends[..., -1].sum()) * step.outputs * taps / len(values.inputs)
        density, rate = float((level > 0).mean()), float(level.mean())
        layers.append(Layer(step.name, "events", density, rate, sums, seconds, seconds, None))
    dense: dict[str, float] = {}
    for stretch in everywhere:
        if isinstance(stretch, Stretch):
            dense |= stretch.profile(values.read, values.inputs.shape, repeats)
    return [
        layer if layer.seconds_events is None else replace(layer, seconds_dense=dense.get(layer.name))
        for layer in layers
    ]


def profile(
    steps: Sequence[Step | Stretch], values: Values, layers: Sequence[Layer], repeats: int
) -> list[Layer]:
    """Return the layers as they run in `steps`, with the time of every stretch."""
    measured, rows = {layer.name: layer for layer in layers}, []
    for step in steps:
        if isinstance(step, Stretch):
            seconds = race({"": partial(run_step, step, values)}, repeats)[""]
            rows.append(Layer(step.name, "stretch", None, None, 0.0, seconds, None, None))
            rows += [replace(measured[inner.name], chosen="dense", seconds=None) for inner in step.steps]
        else:
            rows.append(measured[step.name])
    return rows


def whole_profile(whole: Whole, pictures: np.ndarray, layers: Sequence[Layer], repeats: int) -> list[Layer]:
    """Return the layers of a network that runs dense as one, with the time of all."""
    seconds = race({"": partial(whole, pictures)}, repeats)[""]
    inside = [replace(layer, chosen="dense", seconds=None) for layer in layers]
    return [Layer(whole.name, "stretch", None, None, 0.0, seconds, None, None), *inside]


def race(
    runs: Mapping[str, Callable[[], object]], repeats: int, pause: float = 0.0, warm: float = 0.0
) -> dict[str, float]:
    """Return the least seconds of each, all in turn, so that what slows the machine for a while slows all alike.

    pause: seconds before every turn, in which the threads of the one before, which spin for a while, go to sleep.
    warm: seconds in which its own wake up before it is timed; once it runs in any case.
    """
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            time.sleep(pause)
            awake = time.perf_counter() + warm
            run()
            while time.perf_counter() < awake:
                run()
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def clearly_fastest(times: Mapping[str, float]) -> str:
    """Return the fastest, or `events` where nothing is faster by a margin that is no noise."""
    fastest = min(times, key=times.__getitem__)
    return fastest if times[fastest] < MARGIN * times["events"] else "events"


def table(layers: list[Layer]) -> str:
    """Return the layers as text, one a line; Macc counts the accumulates that events make or would make."""
    total = sum(layer.seconds or 0.0 for layer in layers)
    lines = [
        f"{'layer':34}{'density':>9}{'rate':>7}{'Macc':>8}{'ms':>9}{'events':>9}{'dense':>9}{'share':>7}  chosen"
    ]
    for layer in layers:
        numbers = (
            f"{_shown(layer.density, '.1%'):>9}{_shown(layer.rate, '.3f'):>7}{layer.accumulates / 1e6:8.2f}"
            f"{_shown(layer.seconds, '.3f', 1e3):>9}{_shown(layer.seconds_events, '.3f', 1e3):>9}"
            f"{_shown(layer.seconds_dense, '.3f', 1e3):>9}{_shown(layer.seconds, '.1%', 1 / total):>7}"
        )
        name = f"  {layer.name}" if layer.seconds is None else layer.name  # inside a stretch
        lines.append(f"{name:34}{numbers}  {layer.chosen}")
    return "\n".join(
        [*lines, f"{'total':34}{'':16}{sum(x.accumulates for x in layers) / 1e6:8.2f}{total * 1e3:9.3f}"]
    )


def _shown(value: float | None, form: str, factor: float = 1) -> str:
    return "-" if value is None else format(value * factor, form)
