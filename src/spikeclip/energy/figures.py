"""The figures of an energy report, as functions that return matplotlib figures; nothing is shown or saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spikeclip.errors import InputError
from spikeclip.figures import COLOURS, error_bars, from_zero, panels, shades, style
from spikeclip.graph import ops
from spikeclip.graph.execute import execute
from spikeclip.graph.ops import Graph, Op
from spikeclip.graph.substeps import to_substeps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPIKING_SHADES = ("#f6cf94", "#e8a13a", "#d9772a", "#c4501b", "#8c3210", "#521c08")
ORDINARY_SHADES = ("#1f5f9e", "#5b9bd0", "#9fb3c8")
KINDS = {
    "mac": "#1f5f9e",
    "accumulate": "#c4501b",
    "integer accumulate": "#e07b39",
    "neuron": "#e8a13a",
    "add": "#7aa874",
    "pool": "#a7c4a0",
    "readout": "#b6a6ca",
    "embedding": "#d8cfe4",
    "memory": "#6b7280",
    "addressing": "#b9bec6",
}


@dataclass(frozen=True)
class Point:
    """One network of a trade-off."""

    name: str
    accuracy: float
    """Fraction."""
    x: float
    """Energy in J, or spikes per neuron and time step."""
    spiking: bool = True
    interval: float = 0.0
    """Half of the confidence interval of the accuracy, where it is drawn."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch of a training ended with."""

    stage: str
    accuracy: float
    """On the validation pictures, a fraction."""
    rate: float
    """Spikes per neuron and time step, mean over the layers of the image tower."""


def levels_figure(account: Mapping[str, Any]) -> Figure:
    """Draw what a picture costs (with its share of the text tower) at every level, as each network."""
    totals, levels = account["energy"]["total"]["joules"], account["energy"]["levels"]
    intervals = account["energy"]["total"]["intervals"]
    figure, axes = panels(9, 4.2)
    width = 0.84 / len(totals)
    for i, (name, joules) in enumerate(totals.items()):
        places = [p + i * width for p, level in enumerate(levels) if level in joules]
        values = [1e6 * joules[level] for level in levels if level in joules]
        errors = [1e6 * intervals.get(name, {}).get(level, 0.0) for level in levels if level in joules]
        axes.bar(places, values, 0.92 * width, yerr=np.nan_to_num(errors), color=COLOURS[i], label=name)
    axes.set_yscale("log")
    axes.set_xticks(np.arange(len(levels)) + 0.42 - width / 2, levels)
    axes.set_ylabel("µJ per picture (logarithmic)")
    axes.legend(fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return figure


def layers_figure(account: Mapping[str, Any], level: str = "L2 tiled", tower: str = "image") -> Figure:
    """Draw what each layer of a tower costs at a level, spiking and as its twins."""
    layers = account["energy"][tower]["layers"]
    names = list(next(iter(layers.values()))[level])
    figure, axes = panels(9, 0.9 + 0.32 * len(names))
    height = 0.84 / len(layers)
    for i, (network, by_level) in enumerate(layers.items()):
        values = [1e6 * by_level[level].get(name, 0.0) for name in names]
        axes.barh(np.arange(len(names)) + i * height, values, 0.92 * height, color=COLOURS[i], label=network)
    axes.set_yticks(np.arange(len(names)) + 0.42 - height / 2, names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set_xlabel(f"µJ per input at {level} (logarithmic above 0.01)")
    axes.legend(fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return figure


def kinds_figure(account: Mapping[str, Any], tower: str = "image") -> Figure:
    """Draw what each network's energy is spent on, as shares, at the levels from L1 on."""
    kinds = account["energy"][tower]["kinds"]
    levels = account["energy"]["levels"][1:]
    bars = [(network, level) for level in levels for network in kinds]
    figure, axes = panels(9, 0.9 + 0.28 * len(bars))
    left = np.zeros(len(bars))
    for kind, colour in KINDS.items():
        shares = np.array([kinds[n][lv].get(kind, 0.0) / sum(kinds[n][lv].values()) for n, lv in bars])
        if shares.any():
            axes.barh(np.arange(len(bars)), shares, 0.8, left, color=colour, label=kind)
        left += shares
    axes.set_yticks(np.arange(len(bars)), [f"{level}: {network}" for network, level in bars], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the energy of one input")
    axes.legend(fontsize=8, ncols=5, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return figure


def rates_figure(account: Mapping[str, Any]) -> Figure:
    """Draw the firing rate of every layer in every time step, with 95 % confidence intervals."""
    rates, intervals = account["spikes"]["rates_by_step"], account["spikes"]["intervals_by_step"]
    names = list(rates)
    steps = len(next(iter(rates.values())))
    colours = shades(steps, SPIKING_SHADES) if steps > 1 else COLOURS[:1]
    figure, axes = panels(9, 5)
    for t in range(steps):
        values = [rates[name][t] for name in names]
        errors = error_bars(values, [intervals[name][t] for name in names])
        axes.errorbar(np.arange(len(names)) + 0.5 * (t + 0.5) / steps - 0.25, values, errors, fmt="o",
                      markersize=4, capsize=2, color=colours[t], label=f"step {t + 1}")  # fmt: skip
    axes.set_xticks(np.arange(len(names)), names, rotation=90, fontsize=7)
    from_zero(axes)
    axes.set_ylabel("spikes per neuron and step")
    if steps > 1:
        axes.legend(fontsize=8, ncols=4, frameon=False)
    return figure


def raster_figure(
    graph: Graph, picture: np.ndarray, layers: Sequence[str] = (), neurons: int = 300
) -> Figure:
    """Draw the spikes of chosen layers for one picture: a row is a neuron, a column a time step (I-LIF: a sub-step).

    picture: as the graph reads it, (1, H, W, C), or token ids (1, L). layers: names of neurons, by default the first,
    the middle and the last. neurons: at most so many rows, evenly taken from the layer. Raises `InputError` for a name
    that is no layer of neurons.
    """
    binary, spikes = to_substeps(graph), {}

    def watch(op: Op, value: np.ndarray) -> None:
        if isinstance(op, ops.Neuron):
            spikes[op.name] = value.reshape(len(value), -1).T > 0

    execute(binary, picture, watch)
    known = list(spikes)
    chosen = list(layers) or list(dict.fromkeys((known[0], known[len(known) // 2], known[-1])))
    for name in chosen:
        if name not in spikes:
            raise InputError(f"{name!r} is no layer of neurons; there are {', '.join(known)}")
    figure, axes = panels(9, 3.4, len(chosen))
    for panel, name in zip(np.ravel(axes), chosen, strict=True):
        raster = spikes[name]
        rows = np.linspace(0, len(raster) - 1, min(neurons, len(raster))).astype(int)
        panel.imshow(raster[rows], aspect="auto", cmap="Greys", interpolation="nearest", vmin=0, vmax=1)
        panel.set_title(
            f"{name}: {len(rows)} of {len(raster):,} neurons\na spike in {100 * raster.mean():.1f} % of all places",
            fontsize=8,
        )
        panel.set_xticks(range(raster.shape[1]), range(1, raster.shape[1] + 1))
        substeps = binary[name].substeps  # type: ignore[attr-defined]
        panel.set_xlabel("time step" if substeps == 1 else f"sub-step, {substeps} to a time step", fontsize=8)
        panel.set_yticks([])
    return figure


def tradeoff_figure(
    points: Sequence[Point], xlabel: str, xscale: Literal["linear", "log"] = "linear"
) -> Figure:
    """Draw accuracy against energy or firing rate; the line joins the spiking networks that no other one beats.

    Spiking networks are circles, from light to dark in the order given, ordinary ones squares. Names are in the
    legend; networks of the same place share a mark and a line of it.
    """
    if not points:
        raise InputError("no networks to draw")
    figure, axes = panels(9, 4.2)
    front = pareto([p for p in points if p.spiking])
    axes.plot([p.x for p in front], [100 * p.accuracy for p in front], "-", color=COLOURS[0], linewidth=1)
    for spiking, marker, ends in ((True, "o", SPIKING_SHADES), (False, "s", ORDINARY_SHADES)):
        places: dict[tuple[float, float], list[Point]] = {}
        for p in (p for p in points if p.spiking == spiking):
            places.setdefault((p.x, p.accuracy), []).append(p)
        for colour, same in zip(shades(len(places), ends), places.values(), strict=True):
            p = same[0]
            bars = error_bars(100 * p.accuracy, 100 * p.interval, high=100) if p.interval else None
            axes.errorbar(p.x, 100 * p.accuracy, bars, fmt=marker, color=colour, capsize=2, elinewidth=0.8,
                          markeredgecolor="white", label="\n".join(p.name for p in same))  # fmt: skip
    axes.set_xscale(xscale)
    if xscale == "log":
        for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            which(_ticks())
    axes.set_xlabel(xlabel)
    axes.set_ylabel("validation accuracy, %")
    axes.grid(color="#e3e6ea", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def epochs_figure(epochs: Sequence[Epoch]) -> Figure:
    """Draw validation accuracy and firing rate over the epochs of a training, a colour for each stage."""
    if not epochs:
        raise InputError("no epochs to draw")
    figure, axes = panels(9, 4.6, rows=2)
    for index, stage in enumerate(dict.fromkeys(epoch.stage for epoch in epochs)):
        shown = [(i + 1, epoch) for i, epoch in enumerate(epochs) if epoch.stage == stage]
        places = [i for i, _ in shown]
        axes[0].plot(places, [100 * epoch.accuracy for _, epoch in shown], **style(index), label=stage)
        axes[1].plot(places, [epoch.rate for _, epoch in shown], **style(index))
    for panel, name in zip(axes, ("validation accuracy, %", "spikes per neuron\nand step"), strict=True):
        panel.set_ylabel(name)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(color="#e3e6ea", linewidth=0.6)
    from_zero(axes[1])
    axes[1].set_xlabel("epoch of the whole training")
    figure.legend(loc="outside upper left", ncols=4, fontsize=8, frameon=False)
    return figure


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that none beats in both accuracy and x, cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def _ticks() -> Any:
    """Plain numbers on a logarithmic axis, few of them between the powers of ten of a long one."""
    from matplotlib.ticker import LogFormatter

    return LogFormatter(minor_thresholds=(2.5, 1))
