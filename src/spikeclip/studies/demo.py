"""From pictures to a model on the built-in set: a teacher, a spiking student, its ReLU twin, and their accuracy."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.config import RunConfig, TeacherTraining
from spikeclip.data.pictures import Pictures, validation_split
from spikeclip.data.shapes import shapes
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.encode.classify import class_scores
from spikeclip.encode.embed import embed_pictures, zero_shot_classifier
from spikeclip.energy.account import account, teacher_cost
from spikeclip.energy.conventions import load_conventions
from spikeclip.energy.report import write_report
from spikeclip.errors import InputError
from spikeclip.evaluate.figure import predictions_figure
from spikeclip.evaluate.record import evaluate_model
from spikeclip.figures import save_figure
from spikeclip.graph.saved import open_graphs
from spikeclip.open import open_encoder
from spikeclip.records import write_record
from spikeclip.studies.grid import study
from spikeclip.train.folder import RUN, clear, foreign
from spikeclip.train.recipe import BUILT_IN, load_recipe
from spikeclip.train.run import train_run
from spikeclip.train.teacher import WRITTEN, train_teacher

RECIPE = BUILT_IN / "shapes.yaml"
"""The recipe of both students."""
TEACHER = TeacherTraining()
SPLITS = {"seen": "test", "held_out": "heldout"}
"""Colour-shape pairs that training pictures show, and pairs that none shows; each among all 64 names."""
_WRITTEN = (
    *(f"{folder}/{file}" for folder in ("teacher.training", "spiking", "relu") for file in RUN),
    *(f"{folder}/{file}" for folder in ("teacher", ".teacher.*.new", ".teacher.*.old") for file in WRITTEN),
    *(file for file in RUN if file.startswith("model/")),
    *("results.json", "predictions.png", "energy.html"),
)
"""All that a demo leaves."""
_SHOWN = 16


def run_demo(out: Path, recipe: Path = RECIPE, teacher: TeacherTraining = TEACHER) -> dict[str, Any]:
    """Train teacher, spiking network and `relu` twin; evaluate them on seen and held-out pairs.

    Leaves `out`/model (the spiking network), results.json, predictions.png and energy.html, and the three runs.
    An earlier demo in `out` is replaced. teacher: how the teacher is trained. Returns what results.json holds:
    `networks`, one row each with name, accuracies as fractions, mean firing rate (spikes per neuron and time
    step, None for the ordinary networks) and training seconds; `seconds` of everything; the `records`. Raises
    `InputError` where `out` holds anything else, and `Interrupted` after Ctrl-C.
    """
    with study(out, "demo", "starts anew"):
        return _demo(out, recipe, teacher)


def _demo(out: Path, recipe: Path, teacher: TeacherTraining) -> dict[str, Any]:
    _clear(out)
    started = time.monotonic()
    config = load_recipe(recipe)
    config = dataclasses.replace(
        config, teacher=dataclasses.replace(config.teacher, path=str(out / "teacher"))
    )
    pictures = {name: shapes(split) for name, split in SPLITS.items()}

    train, validation = validation_split(shapes("train"), config.data.val_fraction, config.seed)
    trained = train_teacher(train, validation, out / "teacher", teacher, title="teacher  ")
    networks = {"teacher": (out / "teacher", trained["seconds"])}
    for name, student in _students(config).items():
        result = train_run(student, out / name, title=f"{name}  ", test=False)
        networks[name] = (out / name / "model", result["seconds"])
    shutil.copytree(out / "spiking" / "model", out / "model", dirs_exist_ok=True)

    rows, records = [], []
    for name, (folder, seconds) in networks.items():
        row, row_records = _evaluate(name, folder, pictures, config)
        rows.append({**row, "seconds": seconds})
        records += row_records
    _draw(out, pictures["held_out"], config, rows[1]["held_out"])
    _report_energy(out, pictures["seen"], config, rows[2]["seen"])
    results = {"networks": rows, "seconds": time.monotonic() - started, "records": records}
    write_record(results, out / "results.json")
    return results


def _students(config: RunConfig) -> dict[str, RunConfig]:
    relu = dataclasses.replace(config, model=dataclasses.replace(config.model, neuron="relu"))
    return {"spiking": config, "relu": relu}


def _evaluate(
    name: str, folder: Path, pictures: dict[str, Pictures], config: RunConfig
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    encoder = open_encoder(folder)
    records = {
        key: evaluate_model(
            encoder, part, templates=config.data.templates, seed=config.seed, pretrained=str(folder)
        )
        for key, part in pictures.items()
    }
    accuracies = {key: record["metrics"]["acc1"] for key, record in records.items()}
    rate = (records["seen"]["spikes"] or {}).get("mean_rate", math.nan)
    return {"name": name, **accuracies, "mean_rate": None if math.isnan(rate) else rate}, list(
        records.values()
    )


def _draw(out: Path, pictures: Pictures, config: RunConfig, accuracy: float) -> None:
    """Save predictions.png: the first held-out pictures and what the saved model takes them for."""
    encoder = open_encoder(out / "model")
    shown = pictures.subset(np.arange(_SHOWN))
    classes_KD = zero_shot_classifier(encoder, shown.classnames, config.data.templates)
    scores_NK = class_scores(encoder, embed_pictures(encoder, shown), classes_KD)
    title = f"Colour-shape pairs that no training picture showed: {accuracy:.0%} of {len(pictures)} right"
    figure = predictions_figure(shown, scores_NK, shown.classnames, title=title)
    save_figure(figure, out / "predictions.png")


def _report_energy(out: Path, pictures: Pictures, config: RunConfig, twin: float) -> None:
    """Save energy.html: what the saved model costs on pictures of seen pairs. twin: accuracy of the `relu` twin."""
    graphs = open_graphs(out / "model")
    tokenizer = Tokenizer.load(out / "model")
    templates = config.data.templates
    teacher = teacher_cost(str(out / "teacher"), pictures, templates, "the demo's small CLIP")
    conventions = dataclasses.replace(load_conventions(), teacher=teacher)
    found = account(graphs, tokenizer, pictures, conventions, templates=templates)
    found["twin"] = {"acc1": twin, "pictures": len(pictures)}
    log = out / "spiking" / "metrics.jsonl"
    write_report(found, out / "energy.html", graphs.image, pictures.images[0], log, "Energy of the demo")


def _clear(out: Path) -> None:
    """Remove an earlier demo; raises `InputError` where there is anything else, and then removes nothing."""
    if others := foreign(out, _WRITTEN):
        raise InputError(f"{out} holds {others[0]!r}, which no demo wrote: choose another --out")
    clear(out, _WRITTEN)
