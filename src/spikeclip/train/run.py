"""A whole run: pictures, lessons, model, every stage in order, the saved model and its result on the test split."""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from spikeclip.config import ImageFormat, RunConfig
from spikeclip.data.mixture import join, load_sources
from spikeclip.data.sources import warn_of_new_classes
from spikeclip.encode.student import Student
from spikeclip.errors import InputError
from spikeclip.evaluate.record import evaluate_model
from spikeclip.files import check_free
from spikeclip.model import SpikeCLIP, from_pretrained
from spikeclip.records import write_record
from spikeclip.towers.synapses import int8_weights
from spikeclip.train.build import build_model, read_model_config, taught_by, with_scores
from spikeclip.train.checkpoint import load_checkpoint, save_checkpoint
from spikeclip.train.lessons import Lessons, gather_lessons
from spikeclip.train.loop import Progress, run_stage
from spikeclip.train.pictures import RunPictures, load_run_pictures
from spikeclip.train.precision import resolve_precision
from spikeclip.train.recipe import changed_settings, recipe_values
from spikeclip.train.recipe_checks import check_run
from spikeclip.train.report import Report
from spikeclip.train.session import Session, open_session
from spikeclip.train.stages import make_stage

GRAPHS = 64
"""Graphs that torch.compile may make of one tower: training and not, ReLU and spikes, fixed sizes and any."""


def train_run(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    title: str = "",
    quiet: bool = False,
    test: bool = True,
) -> dict[str, Any]:
    """Run every stage of `config` and save `out`/model and `out`/results.json.

    `resume` continues an interrupted run from its checkpoint with the same recipe and ends with the weights an
    uninterrupted run would have. `overwrite` removes an earlier run in `out`. `test` reports the test split once,
    at the end. Returns {"stages": [...], "seconds": training time, "precision": of the training,
    "test": record or None}. Raises `InputError`, and `Interrupted` after Ctrl-C.
    """
    check_run(config)
    accelerator = Accelerator()
    checkpoint = out / "checkpoint.pt"
    if accelerator.is_main_process:
        _prepare(config, out, resume, overwrite)
    accelerator.wait_for_everyone()
    state = load_checkpoint(checkpoint) if resume and checkpoint.exists() else None

    set_seed(config.seed)
    format = read_model_config(config.model).image.format
    with accelerator.main_process_first():  # one process fills the caches, the others read them
        pictures = load_run_pictures(config, format)
        lessons = gather_lessons(config, pictures, str(accelerator.device))
    model = build_model(config.model, pictures, lessons).to(accelerator.device)
    model.taught = taught_by(config).after(model.taught)
    if state:
        model.load_state_dict(state["weights"])
    if config.compile:
        model.image.compile(fullgraph=True)
        model.text.compile(fullgraph=True)
    report = Report(out, accelerator.is_main_process, title, quiet)
    precision = resolve_precision(config.precision, accelerator.device.type)
    opened = open_session(accelerator, report, precision, checkpoint, config.checkpoint_minutes)
    with opened as session, _graphs_allowed() if config.compile else nullcontext():
        done = _run_stages(config, model, (pictures, lessons), session, checkpoint, state)
    result: dict[str, Any] = {
        "stages": done,
        "seconds": sum(stage["seconds"] for stage in done),
        "precision": "bf16" if precision == torch.bfloat16 else "fp32",
        "test": None,
    }
    if accelerator.is_main_process:
        model.save_pretrained(out / "model")
        if test and config.data.test_split:
            saved = Student(from_pretrained(out / "model").to(accelerator.device))
            result["test"] = _test(config, saved, format, pictures.classnames)
        model.taught = with_scores(model.taught, done, result["test"])
        model.save_taught(out / "model")
        result["recipe"] = recipe_values(config)
        write_record(result, out / "results.json")
    return result


def _run_stages(
    config: RunConfig,
    model: SpikeCLIP,
    data: tuple[RunPictures, Lessons],
    session: Session,
    checkpoint: Path,
    state: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    """Run the stages that a checkpoint has not finished; return one row for each stage of the run.

    A checkpoint holds the rows of finished stages, `done`, the `weights` at the start of the one under way, and its
    `stage`, None where none is under way.
    """
    main = session.accelerator.is_main_process
    done: list[dict[str, Any]] = state["done"] if state else []
    under_way = state["stage"] if state else None
    for index in range(len(done), len(config.stages)):
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        stage = make_stage(config.stages[index], config.seed + index, model.eval(), *data)

        def save(inside: dict[str, Any], weights: dict = weights) -> None:
            if main:
                save_checkpoint(checkpoint, {"done": done, "weights": weights, "stage": inside})

        with int8_weights(model, stage.config.int8_weights):
            progress = run_stage(model, stage, session, index=index, save=save, state=under_way)
        under_way = None
        done.append(_row(stage.config.stage, stage.score_name, progress))
        if main:
            save_checkpoint(checkpoint, {"done": done, "weights": model.state_dict(), "stage": None})
    return done


def _row(stage: str, score_name: str, progress: Progress) -> dict[str, Any]:
    return {
        "stage": stage,
        "seconds": progress.seconds,
        "score": score_name,
        "best": progress.best_score,
        "best_step": progress.best_step,
        "steps": progress.step,
    }


def _test(config: RunConfig, student: Student, format: ImageFormat, trained: list[str]) -> dict[str, Any]:
    """The record of the test split: classification, or retrieval where pictures have captions only."""
    assert config.data.test_split is not None
    pictures = join(load_sources(config.data, config.data.test_split, format))
    warn_of_new_classes(pictures, [*trained, *config.data.withhold])
    task = "zeroshot_retrieval" if pictures.labels is None else "zeroshot_classification"
    return evaluate_model(student, pictures, task=task, templates=config.data.templates, seed=config.seed)


def _graphs_allowed() -> AbstractContextManager:
    # The older name of recompile_limit, which every supported version has.
    return torch._dynamo.config.patch(cache_size_limit=GRAPHS)


def _prepare(config: RunConfig, out: Path, resume: bool, overwrite: bool) -> None:
    recipe = out / "recipe.json"
    if resume:
        if not recipe.is_file():
            raise InputError(f"nothing to resume in {out}")
        if changed := changed_settings(json.loads(recipe.read_text()), config):
            raise InputError(f"{out} was started with another recipe (different: {', '.join(changed)})")
        return
    if recipe.exists():
        if not overwrite:
            raise InputError(f"{out} already holds a run: --resume continues it, --overwrite replaces it")
        shutil.rmtree(out)
    check_free(out, "run", False)  # what was a run is gone
    out.mkdir(parents=True, exist_ok=True)
    recipe.write_text(json.dumps(recipe_values(config), indent=2) + "\n")
