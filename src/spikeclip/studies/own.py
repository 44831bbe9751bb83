"""A network and its ReLU twin trained on a folder of one's own pictures, side by side."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from spikeclip.config import RunConfig
from spikeclip.errors import InputError
from spikeclip.records import write_record
from spikeclip.studies.grid import run_once
from spikeclip.train.plan import Plan
from spikeclip.train.run import train_run

PROMPTS = "model/prompts.json"
"""File in a run with its class names and templates, for `classify --prompts`."""


def train_own(
    plan: Plan, out: Path, *, resume: bool = False, overwrite: bool = False, twin: bool = True
) -> list[dict[str, Any]]:
    """Train as planned in `out`, then the `relu` twin by the same recipe in `out`-relu; return a row for each.

    A row holds name, folder, validation and test accuracy as fractions (None without a test split), mean firing rate
    (None for the twin and without a test) and training seconds. In all but the main process there are no rows.
    `out`/model/prompts.json has the class names. `resume` continues whichever was interrupted. Raises `InputError`,
    also where the twin's folder is taken, and `Interrupted`.
    """
    recipes = {out: plan.config}
    if twin and plan.config.model.pretrained is None and plan.config.model.neuron != "relu":
        folder = out.with_name(f"{out.name}-relu")
        recipes[folder] = relu_twin(plan.config)
        if folder.exists() and not (resume or overwrite):  # said now, not when the first is trained
            raise InputError(
                f"{folder}, the folder of the ReLU twin, exists already: --resume continues it, --overwrite replaces "
                "it, --no-twin trains none"
            )
    rows = []
    for folder, config in recipes.items():
        title = "" if folder == out else "ReLU twin  "
        if resume and folder != out:  # it may not have begun
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
    neuron, test = config.model.neuron or "ilif", result["test"]
    rate = ((test or {}).get("spikes") or {}).get("mean_rate", math.nan)
    return {
        "name": "ReLU twin" if neuron == "relu" else f"spiking ({neuron})",
        "folder": folder,
        "validation": result["stages"][-1]["best"],
        "test": test["metrics"]["acc1"] if test else None,
        "mean_rate": None if math.isnan(rate) else rate,
        "seconds": result["seconds"],
    }
