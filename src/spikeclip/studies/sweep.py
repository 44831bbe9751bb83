"""Accuracy against energy: one recipe at several strengths of the firing-rate regulariser, and its ordinary twins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spikeclip.config import TWINS, RunConfig
from spikeclip.data.mixture import join, split_sources
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.energy.account import account
from spikeclip.energy.compare import SPIKING
from spikeclip.energy.conventions import Conventions
from spikeclip.energy.figures import Point, tradeoff_figure
from spikeclip.energy.words import share_interval
from spikeclip.errors import InputError
from spikeclip.figures import save_figure
from spikeclip.graph.saved import open_graphs
from spikeclip.records import write_record
from spikeclip.studies.grid import run_once, study
from spikeclip.train.recipe import recipe_values
from spikeclip.train.recipe_checks import check_run

LEVELS = ("L1", "L2 tiled", "L2 no reuse")
"""Each gets a figure; L0 is no claim."""


def run_sweep(
    config: RunConfig,
    out: Path,
    strengths: Sequence[float],
    conventions: Conventions,
    *,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train `config` with each strength of the last stage's `loss.rate`, and its twins; account for their energy.

    A run that is finished is kept and one that was interrupted goes on, so the same call continues a sweep. Accuracy
    and firing are those of the validation split, since a strength is to be chosen by them: of the spiking networks with
    int8 weights, as their energy; of the twins as trained, which favours them. The relu twin stands for the fp32 and
    int8 ordinary networks, the quant_relu twin with T D levels for the quantised one.

    Leaves `out`/NAME for each run, sweep.json and tradeoff-LEVEL.png. Returns what sweep.json holds: `networks`,
    one row each with `name`, `strength` (None for twins), `accuracy` and `interval`, half of its 95 % confidence
    interval, `rate` (spikes per neuron and step), `joules` by level of a picture (int8 weights; the twins' as in
    `energy`). Raises `InputError` for a model without spikes, stages without accuracy, and no strengths; and
    `Interrupted` after Ctrl-C.
    """
    if not strengths or len(set(strengths)) < len(strengths):
        raise InputError(f"expected different strengths of the regulariser, got {list(strengths)}")
    if config.stages[-1].stage != "finetune":
        raise InputError(
            f"a sweep needs accuracy, so its last stage is finetune, not {config.stages[-1].stage}"
        )
    for strength in strengths:
        check_run(_with_strength(config, strength))
    twins = _twins(config)
    with study(out, "sweep"):
        rows = _networks(config, twins, out, strengths, conventions, quiet)
    result = {"networks": rows, "convention": conventions.name, "recipe": recipe_values(config)}
    write_record(result, out / "sweep.json")
    for level in LEVELS:
        points = [
            Point(
                _label(r), r["accuracy"], 1e6 * r["joules"][level], r["strength"] is not None, r["interval"]
            )
            for r in rows
        ]
        figure = tradeoff_figure(points, f"µJ per picture at {level} (logarithmic)", "log")
        save_figure(figure, out / f"tradeoff-{level.replace(' ', '-')}.png")
    return result


def _networks(
    config: RunConfig,
    twins: dict[str, RunConfig],
    out: Path,
    strengths: Sequence[float],
    conventions: Conventions,
    quiet: bool,
) -> list[dict[str, Any]]:
    rows, totals, pictures = [], {}, 0
    for strength in strengths:
        name = f"rate-{strength:g}"
        _trained(_with_strength(config, strength), out / name, quiet)
        found = _account(config, out / name / "model", conventions)
        totals, pictures = found["energy"]["total"]["joules"], found["data"]["pictures"]
        row = {"name": name, "strength": strength, **_accuracy(found["metrics"]["acc1"], pictures)}
        rows.append({**row, "rate": found["spikes"]["mean_rate"], "joules": totals[SPIKING[1].name]})
    for kind, twin in twins.items():
        accuracy = _accuracy(_trained(twin, out / kind, quiet), pictures)
        # The energy of the same towers, whatever fired in them.
        rows += [
            {"name": name, "strength": None, **accuracy, "rate": None, "joules": joules}
            for name, joules in totals.items()
            if name.startswith("ANN") and name.endswith("-bit activations") == (kind == "quant_relu")
        ]
    return rows


def _accuracy(accuracy: float, pictures: int) -> dict[str, float]:
    return {"accuracy": accuracy, "interval": share_interval(accuracy, pictures)}


def _label(row: dict[str, Any]) -> str:
    if row["strength"] is None:
        return row["name"]
    return f"spiking, int8, loss.rate {row['strength']:g}: {row['rate']:.2f} spikes"


def _twins(config: RunConfig) -> dict[str, RunConfig]:
    if config.model.pretrained is not None:
        raise InputError("a sweep builds its twins, so its recipe cannot start from model.pretrained")
    neuron = config.model.resolve().neuron
    if neuron.kind in TWINS:
        raise InputError(f"neuron {neuron.kind} does not spike: there is no rate to regularise")
    D, first_D = (neuron.D, neuron.first_D) if neuron.kind == "ilif" else (1, ())
    levels, first_levels = neuron.T * D, tuple(neuron.T * D for D in first_D)
    models = {
        "relu": dataclasses.replace(config.model, neuron="relu", T=1),
        "quant_relu": dataclasses.replace(
            config.model, neuron="quant_relu", T=1, D=levels, first_D=first_levels
        ),
    }
    return {
        kind: _with_strength(dataclasses.replace(config, model=model), 0.0) for kind, model in models.items()
    }


def _with_strength(config: RunConfig, strength: float) -> RunConfig:
    *before, last = config.stages
    changed = dataclasses.replace(last, loss=dataclasses.replace(last.loss, rate=strength))
    return dataclasses.replace(config, stages=[*before, changed])


def _trained(config: RunConfig, out: Path, quiet: bool) -> float:
    """Validation accuracy of the selected weights."""
    return run_once(config, out, title=f"{out.name}  ", quiet=quiet, test=False)["stages"][-1]["best"]


def _account(config: RunConfig, model: Path, conventions: Conventions) -> dict[str, Any]:
    graphs = open_graphs(model)
    pictures = join(split_sources(config.data, graphs.image.input.format, config.seed)[1])
    tokenizer, templates = Tokenizer.load(model), config.data.templates
    return account(graphs, tokenizer, pictures, conventions, templates=templates, precision="int8")
