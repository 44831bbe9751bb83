"""Where the engine's time goes, and which layers are faster by events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from spikeclip.engine.dense import Product, dense_product, has_dense_products
from spikeclip.engine.plan import Step, Synapses
from spikeclip.engine.run import Values, run_step

MARGIN = 0.95
"""Share of the time of events below which something else counts as faster: less is noise."""


@dataclass
class Layer:
    """One step of a run on a batch."""

    name: str
    chosen: str
    """events, dense, or the kind of a step that has no choice."""
    density: float | None
    """Share of inputs that are not zero, of layers that read spikes."""
    rate: float | None
    """Mean spikes per input and time step."""
    accumulates: float
    """Weight additions by events, for one input (picture or text)."""
    seconds: float
    """Time of the batch, as chosen."""
    seconds_events: float | None
    seconds_dense: float | None


def measure(steps: list[Step], values: Values, mode: str, threads: int, repeats: int) -> list[Layer]:
    """Time every step on `values` and set each layer's product: dense where `mode` says so or, auto, it is faster."""
    layers = []
    for step in steps:
        if not isinstance(step, Synapses):
            seconds = race({"": lambda step=step: run_step(step, values)}, repeats)[""]
            layers.append(Layer(step.name, type(step).__name__.lower(), None, None, 0.0, seconds, None, None))
            continue
        products: dict[str, Product | None] = {"events": None}
        if mode == "dense" or (mode == "auto" and has_dense_products()):
            products["dense"] = dense_product(step.weight_IN, threads)
        stream = values.reals[step.stream] if step.stream is not None else None

        def run(product: Product | None, step: Synapses = step, stream: Any = stream) -> None:
            if step.stream is not None:  # the step adds into the stream
                values.reals[step.stream] = stream.copy()
            step.product = product
            run_step(step, values)

        times = race({name: partial(run, product) for name, product in products.items()}, repeats)
        chosen = mode if mode != "auto" else clearly_fastest(times)
        step.product = products[chosen]
        spikes = values.spikes[step.source]
        level, taps = spikes.dense(), step.filter_[0] * step.filter_[1]
        sums = float(spikes.count.sum()) * step.outputs * taps / len(values.inputs)
        layers.append(
            Layer(
                step.name,
                chosen,
                float((level > 0).mean()),
                float(level.mean()),
                sums,
                times[chosen],
                times["events"],
                times.get("dense"),
            )
        )
    return layers


def race(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the least seconds of each, all in turn, so that what slows the machine for a while slows all alike."""
    for run in runs.values():
        run()
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
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
    total = sum(layer.seconds for layer in layers)
    lines = [
        f"{'layer':34}{'density':>9}{'rate':>7}{'Macc':>8}{'ms':>9}{'events':>9}{'dense':>9}{'share':>7}  chosen"
    ]
    for layer in layers:
        numbers = (
            f"{_shown(layer.density, '.1%'):>9}{_shown(layer.rate, '.3f'):>7}{layer.accumulates / 1e6:8.2f}"
            f"{layer.seconds * 1e3:9.3f}{_shown(layer.seconds_events, '.3f', 1e3):>9}"
            f"{_shown(layer.seconds_dense, '.3f', 1e3):>9}{layer.seconds / total:7.1%}"
        )
        lines.append(f"{layer.name:34}{numbers}  {layer.chosen}")
    return "\n".join(
        [*lines, f"{'total':34}{'':16}{sum(x.accumulates for x in layers) / 1e6:8.2f}{total * 1e3:9.3f}"]
    )


def _shown(value: float | None, form: str, factor: float = 1) -> str:
    return "-" if value is None else format(value * factor, form)
