"""A network and its ReLU twin trained on a folder of one's own pictures, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikeclip.config import RunConfig
from spikeclip.evaluate.statistics import share_bounds
from spikeclip.records import write_record
from spikeclip.studies.grid import run_once
from spikeclip.train.folder import RECIPE, check_start
from spikeclip.train.plan import Plan
from spikeclip.train.recipe import changed_training
from spikeclip.train.run import train_run

PROMPTS = "model/prompts.json"
"""File in a run with its class names and templates, for `classify --prompts`."""


def own_runs(
    config: RunConfig, out: Path, *, resume: bool = False, overwrite: bool = False, twin: bool = True
) -> dict[Path, RunConfig]:
    """Return the recipe of each run by its folder: the network in `out`, its `relu` twin in `out`-relu.

    Raises `InputError` where one may not start, or be resumed, in its folder; see `check_start`.
    """
    runs = {out: config}
    if twin and config.model.pretrained is None and config.model.neuron != "relu":
        runs[out.with_name(f"{out.name}-relu")] = relu_twin(config)
    for folder, its in runs.items():
        again = resume and (folder == out or (folder / RECIPE).is_file())  # the twin may not have begun
        check_start(folder, "run", lambda saved, its=its: changed_training(saved, its), again, overwrite)
    return runs


def train_own(
    plan: Plan, runs: Mapping[Path, RunConfig], *, resume: bool = False, overwrite: bool = False
) -> list[dict[str, Any]]:
    """Train what `own_runs` planned; return a row for each network.

    A row holds name, folder, validation and test accuracy as fractions (None without a test split), and of the pictures
    of the test, else of the validation, their number, `interval`, the ends of the 95 % confidence interval of the
    accuracy, and the mean firing rate (NaN or None for the twin); and the training seconds. In all but the main process
    there are no rows. FOLDER/model/prompts.json has the class names. `resume` continues whichever was interrupted.
    Raises `InputError` and `Interrupted`.
    """
    rows = []
    first = next(iter(runs))
    for folder, config in runs.items():
        title = "" if folder == first else "ReLU twin  "
        if resume and folder != first:  # it may not have begun
            result = run_once(config, folder, title=title)
        else:
            result = train_run(config, folder, resume=resume, overwrite=overwrite, title=title)
        if "recipe" in result:
            write_record(
                {"classnames": plan.classnames, "templates": config.data.templates}, folder / PROMPTS
            )
            rows.append(_row(config, folder, result))
    return rows


def relu_twin(config: RunConfig) -> RunConfig:
    """Return the recipe of the same network with ReLU neurons."""
    return dataclasses.replace(config, model=dataclasses.replace(config.model, neuron="relu", T=None))


def _row(config: RunConfig, folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    neuron, test, validation = config.model.neuron or "ilif", result["test"], result["stages"][-1]["best"]
    accuracy = test["metrics"]["acc1"] if test else None
    # A run that an earlier version finished lacks the validation pictures.
    pictures = (
        test["provenance"]["data"]["pictures"] if test else result.get("validation", {}).get("pictures")
    )
    spikes = (test or result.get("validation", {})).get("spikes") or {}
    return {
        "name": "ReLU twin" if neuron == "relu" else f"spiking ({neuron})",
        "folder": folder,
        "validation": validation,
        "test": accuracy,
        "pictures": pictures,
        "interval": share_bounds(validation if accuracy is None else accuracy, pictures)
        if pictures
        else None,
        "mean_rate": spikes.get("mean_rate"),
        "seconds": result["seconds"],
    }
