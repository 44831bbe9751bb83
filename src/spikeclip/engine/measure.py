"""Where the engine's time goes, and which layers are faster by events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from spikeclip.engine.dense import Product, dense_product, has_dense_products
from spikeclip.engine.plan import Step, Synapses
from spikeclip.engine.run import Values, run_step


@dataclass(frozen=True)
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
            seconds = _best(lambda step=step: run_step(step, values), repeats)
            layers.append(Layer(step.name, type(step).__name__.lower(), None, None, 0.0, seconds, None, None))
            continue
        times = {}
        products: dict[str, Product | None] = {"events": None}
        if mode == "dense" or (mode == "auto" and has_dense_products()):
            products["dense"] = dense_product(step.weight_IN, threads)
        stream = values.reals[step.stream] if step.stream is not None else None
        for name, step.product in products.items():

            def run(step: Synapses = step, stream: object = stream) -> None:
                if step.stream is not None:  # the step adds into the stream
                    values.reals[step.stream] = stream.copy()  # type: ignore[attr-defined]
                run_step(step, values)

            times[name] = _best(run, repeats)
        chosen = mode if mode != "auto" else min(times, key=times.__getitem__)
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


def _best(run: Callable[[], None], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


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
