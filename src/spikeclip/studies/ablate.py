"""Ablations: a recipe with one thing changed at a time, over several seeds."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeclip.config import RunConfig
from spikeclip.config.read import read_yaml
from spikeclip.errors import NO_MEMORY, InputError, is_out_of_memory, unknown
from spikeclip.evaluate.statistics import mean_interval
from spikeclip.figures import COLOURS, error_bars, panels, save_figure
from spikeclip.provenance import environment
from spikeclip.records import write_record
from spikeclip.studies.grid import finished, run_once, study
from spikeclip.train.recipe import full_values, load_recipe, recipe_values
from spikeclip.train.recipe_checks import check_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AXES = Path(__file__).with_name("ablations.yaml")
_BASE = "recipe"
"""Name of the runs of the recipe as it is."""
_LONGEST = 100
"""Characters of the name of a value's runs."""
_COLUMNS = 3
"""Panels side by side in the figure."""
_RECALL = "image_retrieval_recall@1"
"""Stands for accuracy where pictures have captions and no labels."""


@dataclass(frozen=True)
class Cell:
    """One value of an axis: the name and the recipe of its run for each seed. The recipe itself has no axis."""

    axis: str
    value: str
    runs: dict[str, RunConfig]


def load_axes(file: Path | None = None, chosen: Sequence[str] = ()) -> dict[str, dict[str, list[str]]]:
    """Return axes, {axis: {value: [changes as for `load_recipe`]}}, built in or from a YAML file; `chosen` ones or all.

    Raises `InputError` for a file that does not fit and for an axis that is not in it.
    """
    read = read_yaml(file or _AXES)
    if not (isinstance(read, dict) and read and all(map(_is_axis, read.values()))):
        raise InputError(f"{file}: expected axes as `KL: {{without: [stages.finetune.loss.kl=0], ...}}`")
    axes = {str(axis): {str(value): changes for value, changes in read[axis].items()} for axis in read}
    for name in chosen:
        if name not in axes:
            raise unknown("axis", name, axes)
    return {axis: axes[axis] for axis in chosen or axes}


def _is_axis(values: Any) -> bool:
    """Whether each value of an axis has a list of changes, texts as on the command line."""
    return (
        isinstance(values, dict)
        and bool(values)
        and all(
            isinstance(changes, list) and all(isinstance(change, str) for change in changes)
            for changes in values.values()
        )
    )


def plan(
    recipe: Path,
    changes: Sequence[str],
    axes: Mapping[str, Mapping[str, Sequence[str]]],
    seeds: Sequence[int],
) -> list[Cell]:
    """Return the cells of an ablation, the recipe itself first. Every recipe is checked before one is trained.

    `changes` apply to all cells, before those of the axis. A recipe that two cells share has one name and is trained
    once. Raises `InputError` for no or equal seeds, for a change that the recipe cannot take or that sets the seed, and
    for a name that no folder can have.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"expected different seeds, got {list(seeds)}")
    known: dict[str, tuple[str, dict[str, RunConfig]]] = {}

    def cell(axis: str, value: str, its_changes: Sequence[str]) -> Cell:
        try:
            config = load_recipe(recipe, [*changes, *its_changes])
        except InputError as error:
            raise InputError(f"{axis}: {value}: {error}" if axis else str(error)) from error
        content = json.dumps(full_values(config), sort_keys=True)
        if content not in known:
            name = _slug(f"{axis}-{value}") if axis else _BASE
            if not 0 < len(name) <= _LONGEST:
                raise InputError(
                    f"{axis}: {value}: both name a folder: give them a letter from a to z or a digit, and at most "
                    f"{_LONGEST} characters"
                )
            if any(change.partition("=")[0] == "seed" for change in its_changes):
                raise InputError(
                    f"{axis}: {value}: every value is trained with the same seeds; --seeds names them"
                )
            if name in (other for other, _ in known.values()):
                raise InputError(f"{axis}: {value}: another value is called {name} too; change its name")
            runs = {f"{name}-{seed}": dataclasses.replace(config, seed=seed) for seed in seeds}
            for run in runs.values():
                check_run(run)
            known[content] = name, runs
        return Cell(axis, value, known[content][1])

    base = cell("", _BASE, [])
    return [base, *(cell(axis, value, its) for axis, values in axes.items() for value, its in values.items())]


def run_ablation(
    cells: Sequence[Cell], out: Path, *, quiet: bool = False, train: bool = True
) -> dict[str, Any]:
    """Train every run of `cells` that is not finished, in `out`/NAME; the same call continues.

    A run that fails, for want of memory too, is noted and the others go on, unless it is the first, a run of the recipe
    itself. `train` False only reports what is there. Leaves ablation.json and ablation.png and returns what the former
    holds; see `report`. Raises `InputError`, before anything is trained where `out` holds a finished run of another
    recipe, and `Interrupted` after Ctrl-C, when the report holds what is finished.
    """
    runs = {name: config for cell in cells for name, config in cell.runs.items()}
    for name, config in runs.items():
        finished(config, out / name)
    failed: dict[str, str] = {}
    with study(out, "folder of ablations") if train else contextlib.nullcontext():
        try:
            for place, (name, config) in enumerate(runs.items(), 1) if train else ():
                try:
                    run_once(config, out / name, title=f"{place}/{len(runs)} {name}  ", quiet=quiet)
                except Exception as error:
                    if place == 1 or not (isinstance(error, InputError) or is_out_of_memory(error)):
                        raise
                    failed[name] = str(error) if isinstance(error, InputError) else NO_MEMORY
        finally:
            result = report(cells, out, failed)
            if any_finished(result):
                write_record(result, out / "ablation.json")
                save_figure(ablation_figure(result), out / "ablation.png")
    return result


def report(cells: Sequence[Cell], out: Path, failed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the state of an ablation: `rows`, `split`, the `recipe`, `failed` runs by name and the environment.

    A row has `axis` and `value`, `runs` by name with their accuracy (fraction; of captions recall at 1; None where
    missing), their `mean` and `interval`, `change` and `change_interval` against the recipe with the same seeds, and
    `rate`, mean spikes per neuron and step. Intervals are halves of 95 % confidence intervals by Student's t; None
    where there are too few runs for one.
    """
    config = next(iter(cells[0].runs.values()))
    split = config.data.test_split or "validation"
    found = {name: _result(c, out / name) for cell in cells for name, c in cell.runs.items()}
    base = [found[name][0] for name in cells[0].runs]
    rows = []
    for cell in cells:
        values = [found[name][0] for name in cell.runs]
        pairs = [v - b for v, b in zip(values, base, strict=True) if v is not None and b is not None]
        rates = [found[name][1] for name in cell.runs]
        mean, interval = _interval([v for v in values if v is not None])
        change, change_interval = _interval(pairs) if list(cell.runs) != list(cells[0].runs) else (None, None)
        rows.append(
            {
                "axis": cell.axis,
                "value": cell.value,
                "runs": dict(zip(cell.runs, values, strict=True)),
                "mean": mean,
                "interval": interval,
                "change": change,
                "change_interval": change_interval,
                "rate": _interval([r for r in rates if r is not None])[0],
            }
        )
    about = {
        "split": split,
        "recipe": recipe_values(config),
        "failed": dict(failed or {}),
        "provenance": environment(),
    }
    return {"rows": rows, **about}


def any_finished(result: Mapping[str, Any]) -> bool:
    """Whether a report holds a finished run: only then there is something to write."""
    return any(row["mean"] is not None for row in result["rows"])


def ablation_figure(result: Mapping[str, Any]) -> Figure:
    """Draw the accuracy of every value, a panel for each axis, with 95 % confidence intervals over seeds.

    The line is the recipe; a value without a finished run is marked as missing.
    """
    base, *rows = result["rows"]
    axes_of = list(dict.fromkeys(row["axis"] for row in rows)) or [""]
    across = min(_COLUMNS, len(axes_of))
    down = -(-len(axes_of) // across)
    figure, axes = panels(3.7 * across, 2.9 * down, across, down, sharey=True)
    for panel, axis in zip(np.ravel(axes), axes_of, strict=False):
        shown = [row for row in rows if row["axis"] == axis]
        if base["mean"] is not None:
            panel.axhline(100 * base["mean"], color=COLOURS[5], linewidth=0.8, linestyle="--")
        for place, row in enumerate(shown):
            if row["mean"] is None:
                panel.text(place, 0.03, "missing", transform=panel.get_xaxis_transform(), rotation=90, ha="center",
                           fontsize=7, color=COLOURS[5])  # fmt: skip
            else:
                bars = error_bars(100 * row["mean"], 100 * (row["interval"] or 0), high=100)
                panel.errorbar([place], [100 * row["mean"]], bars, fmt="o", capsize=3,
                               markersize=5, color=COLOURS[0])  # fmt: skip
                runs = [100 * value for value in row["runs"].values() if value is not None]
                panel.plot([place + 0.15] * len(runs), runs, ".", markersize=3, color=COLOURS[4])
        panel.set_xticks(
            range(len(shown)),
            [row["value"] for row in shown],
            fontsize=7,
            rotation=30,
            ha="right",
            rotation_mode="anchor",
        )
        panel.set_xlim(-0.5, max(len(shown), 1) - 0.5)
        panel.set_title(axis.replace("_", " "), fontsize=9)
    for panel in np.ravel(axes)[len(axes_of) :]:
        panel.set_axis_off()
    figure.supylabel(f"{result['split']} accuracy, %", fontsize=9)
    return figure


def _result(config: RunConfig, out: Path) -> tuple[float | None, float | None]:
    """Accuracy and mean rate of a run, None where it has not finished; without a test split, of its validation."""
    result = finished(config, out)
    if result is None:
        return None, None
    if not result["test"]:
        fired = result.get("validation", {}).get("spikes") or {}  # runs of an earlier version lack it
        return result["stages"][-1]["best"], fired.get("mean_rate")
    metrics = result["test"]["metrics"]
    return metrics.get("acc1", metrics.get(_RECALL)), result["test"]["spikes"]["mean_rate"]


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    mean, interval = mean_interval(values)
    return (mean if values else None), (interval if len(values) > 1 else None)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
