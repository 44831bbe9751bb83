"""A whole run: pictures, lessons, model, every stage in order, the saved model and its result on the test split."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from spikeclip.config import ImageFormat, RunConfig
from spikeclip.data.mixture import join, load_sources
from spikeclip.data.pictures import Pictures
from spikeclip.data.sources import warn_of_new_classes
from spikeclip.encode.embed import embed_pictures
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.encode.student import Student
from spikeclip.energy.costs import picture_costs
from spikeclip.errors import InputError
from spikeclip.evaluate.record import evaluate_model
from spikeclip.graph.lower import lower
from spikeclip.model import SpikeCLIP, from_pretrained
from spikeclip.neurons import relu_phase
from spikeclip.records import write_record
from spikeclip.towers.synapses import int8_weights
from spikeclip.train.build import build_model, taught_by, with_scores
from spikeclip.train.checkpoint import fitting, load_checkpoint, save_checkpoint
from spikeclip.train.folder import CHECKPOINT, RESULT, begin, check_start, locked
from spikeclip.train.lessons import Lessons, gather_lessons
from spikeclip.train.loop import Progress, run_stage
from spikeclip.train.network import rate_weight
from spikeclip.train.pictures import RunPictures, load_run_pictures
from spikeclip.train.precision import resolve_compile, resolve_precision
from spikeclip.train.recipe import changed_training, read_model_config, recipe_values
from spikeclip.train.recipe_checks import check_files, check_run, check_stages
from spikeclip.train.report import Report
from spikeclip.train.session import Session, open_session
from spikeclip.train.stages import STAGES, check_stage, make_stage
from spikeclip.train.stages.stage import Stage
from spikeclip.train.statistics import check_batch, check_folded

GRAPHS = 64
"""Graphs that torch.compile may make of one tower: training and not, ReLU and spikes, fixed sizes and any."""
_HELD = ("done", "weights", "stage", "pictures")
"""What a checkpoint holds; see `_run_stages`."""


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

    What the stages and the test need is checked before anything starts, and until then nothing is written or removed.
    `resume` continues an interrupted run from its checkpoint with the same recipe and ends with the weights an
    uninterrupted run would have; only `data.test_split`, `data.cache` and what says how it is computed (`feed`,
    `recompute`, `checkpoint_minutes`) may be others. `overwrite` removes what an earlier run wrote
    in `out`. `test` reports the test split once, at the end. Returns {"stages": [...], "seconds": training time,
    "precision": of the training, "test": record or None}, and without a test split "validation": how many `pictures`
    that split has, and the `spikes` on them. Raises `InputError`, also where another process trains in
    `out`, and `Interrupted` after Ctrl-C.
    """
    check_run(config)
    check_files(config)
    accelerator = Accelerator()
    main = accelerator.is_main_process
    report = Report(out, main, title, quiet)
    built = read_model_config(config.model)  # before a folder is made: the model may not be there
    check_stages(config.stages, built)
    with locked(out, "run", main):
        if main:
            check_start(out, "run", lambda saved: changed_training(saved, config), resume, overwrite)
        accelerator.wait_for_everyone()
        state = load_checkpoint(out / CHECKPOINT, _HELD) if resume and (out / CHECKPOINT).exists() else None
        set_seed(config.seed)
        with accelerator.main_process_first():  # one process fills the caches, the others read them
            pictures = load_run_pictures(config, built.image.format)
            tested = _load_test(config, built.image.format, pictures.classnames) if test else None
            lessons = gather_lessons(config, pictures, str(accelerator.device))
        _check(config, (pictures, lessons), accelerator.num_processes, report)
        model = build_model(config.model, pictures, lessons)
        begun = _fingerprints(pictures, lessons, model if config.model.pretrained else None)
        if state:
            _check_same(state["pictures"], begun, out)
        model.to(accelerator.device)
        for index, stage in enumerate(config.stages):
            check_folded(model, stage, STAGES[stage.stage].towers, f"stages.{index}")
        model.taught = taught_by(config, pictures, lessons).after(model.taught)
        if state:
            with fitting():
                model.load_state_dict(state["weights"])
        if main:
            begin(out, recipe_values(config), resume)
        compiled = resolve_compile(config.compile, accelerator.device.type)
        if compiled:
            model.image.compile(fullgraph=True)
            model.text.compile(fullgraph=True)
        precision = resolve_precision(config.precision, accelerator.device.type)
        opened = open_session(
            accelerator, report, precision, out / CHECKPOINT, config.checkpoint_minutes, config.feed
        )
        with opened as session, _graphs_allowed() if compiled else nullcontext():
            session = dataclasses.replace(session, recompute=config.recompute)
            done = _run_stages(config, model, (pictures, lessons), session, (out / CHECKPOINT, begun), state)
        result: dict[str, Any] = {
            "stages": done,
            "seconds": sum(stage["seconds"] for stage in done),
            "precision": "bf16" if precision == torch.bfloat16 else "fp32",
            "test": None,
        }
        if main:
            result["test"] = _save(config, model, out / "model", done, tested)
            if config.data.test_split is None:
                result["validation"] = _fired(out / "model", pictures.splits["val"])
            result["recipe"] = recipe_values(config)
            write_record(result, out / RESULT)
            _add_costs(out / "model", tested or pictures.splits["val"])
    return result


def stage_seed(seed: int, index: int) -> int:
    """Return the seed of stage `index` of a run, independent of those of other stages and runs."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _load_test(config: RunConfig, format: ImageFormat, trained: list[str]) -> Pictures | None:
    """The pictures to test on; warns of classes that are not among the trained, the names of those.

    Raises `InputError` where the pictures cannot be tested on.
    """
    split = config.data.test_split
    if split is None:
        return None
    try:
        pictures = join(load_sources(config.data, split, format))
    except InputError as error:
        raise InputError(f"data.test_split: {error} (data.test_split=null trains without a test)") from error
    if pictures.labels is None and pictures.captions is None:
        raise InputError(
            f"data.test_split: {pictures.name} {split} has neither labels nor captions to test with"
        )
    if pictures.labels is not None and len(pictures.classnames) == 1:
        raise InputError(
            f"data.test_split: every label of {pictures.name} {split} is {pictures.classnames[0]!r}; one class is no "
            "classification (data.test_split=null trains without a test)"
        )
    warn_of_new_classes(pictures, [*trained, *config.data.withhold])
    return pictures


def _check(config: RunConfig, data: tuple[RunPictures, Lessons], processes: int, report: Report) -> None:
    """Raise `InputError` where a stage lacks what it needs, before the first one starts; warn of small batches."""
    for stage in config.stages:
        warning = check_batch(stage, check_stage(stage, *data).count(*data), processes)
        if warning:
            report.warn(warning)


def _fingerprints(pictures: RunPictures, lessons: Lessons, start: SpikeCLIP | None) -> dict[str, str]:
    """Return what a run begins with: the pictures of each split, its lessons, and the model that it starts from."""
    splits = {split: part.fingerprint for split, part in pictures.splits.items()}
    return {**splits, "lessons": lessons.fingerprint, **({"start": start.fingerprint} if start else {})}


def _check_same(before: dict[str, str], now: dict[str, str], out: Path) -> None:
    """Raise `InputError` where a run would go on with other things than it began with; see `_fingerprints`."""
    with fitting():  # an earlier version wrote fewer of them
        changed = [name for name in now if before.get(name, now[name]) != now[name]]
    if changed:
        others = {
            "lessons": "the teacher, the tokenizer or the texts are",
            "start": "the model in model.pretrained is",
        }
        what = others.get(changed[0], "the pictures are")
        raise InputError(
            f"{what} not what the run in {out} began with, so it cannot go on: remove it to start anew"
        )


def _run_stages(
    config: RunConfig,
    model: SpikeCLIP,
    data: tuple[RunPictures, Lessons],
    session: Session,
    kept: tuple[Path, dict[str, str]],
    state: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    """Run the stages that a checkpoint has not finished; return one row for each stage of the run.

    A checkpoint holds the rows of finished stages, `done`, the `weights` at the start of the one under way, its
    `stage`, None where none is under way, and as `pictures` the fingerprints of what the run began with. kept: its
    file, and these.
    """
    checkpoint, begun = kept
    main = session.accelerator.is_main_process
    done: list[dict[str, Any]] = state["done"] if state else []
    under_way = state["stage"] if state else None
    common = {"done": done, "pictures": begun}
    trained = {"image", "text"} if config.model.pretrained is not None else set()
    for index, settings in enumerate(config.stages):
        towers = set(STAGES[settings.stage].towers)
        known, trained = towers <= trained, trained | towers
        if index < len(done):
            continue
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        stage = make_stage(settings, stage_seed(config.seed, index), model.eval(), *data)

        def save(inside: dict[str, Any], weights: dict = weights) -> None:
            if main:
                save_checkpoint(checkpoint, {**common, "weights": weights, "stage": inside})

        with int8_weights(model, settings.int8_weights):
            before = _score(model, stage) if known else None
            progress = run_stage(model, stage, session, index=index, save=save, state=under_way)
        under_way = None
        if before is not None and progress.best_score < before:
            _ended_worse(model, stage, (before, weights), progress, session.report)
        done.append(_row(stage, before, progress))
        if main:
            save_checkpoint(checkpoint, {**common, "weights": model.state_dict(), "stage": None})
    return done


@torch.no_grad()
def _score(model: SpikeCLIP, stage: Stage[SpikeCLIP]) -> float:
    """The validation score of weights from before a stage, in the form in which the stage selects its own."""
    with relu_phase(model, stage.config.relu_first == 1):
        return stage.score(model)


def _ended_worse(
    model: SpikeCLIP, stage: Stage, before: tuple[float, dict], progress: Progress, report: Report
) -> None:
    """Say that no weights of a stage score as those from `before` did, and go back to these where that is wanted."""
    score, weights = before
    kept = stage.config.keep_better and not rate_weight(model, stage)
    which = (
        "those from before are kept (keep_better: false takes the new)"
        if kept
        else "they are kept all the same"
    )
    report.warn(
        f"stage {stage.config.stage} ended worse than it began: its best weights have {stage.score_name} "
        f"{progress.best_score:.4f}, before it was {score:.4f}; {which}"
    )
    if kept:
        model.load_state_dict(weights)
        progress.best_score, progress.best_step = score, 0


def _row(stage: Stage, before: float | None, progress: Progress) -> dict[str, Any]:
    return {
        "stage": stage.config.stage,
        "seconds": progress.seconds,
        "score": stage.score_name,
        "before": before,
        "best": progress.best_score,
        "best_step": progress.best_step,
        "steps": progress.step,
    }


def _save(
    config: RunConfig, model: SpikeCLIP, folder: Path, done: list[dict[str, Any]], tested: Pictures | None
) -> dict[str, Any] | None:
    """Save the model, test what was saved, and add its scores to it; return the record of the test."""
    model.save_pretrained(folder)
    record = None
    if tested is not None:
        student = Student(from_pretrained(folder).to(model.log_scale.device))
        record = _test(config, student, tested)
    model.taught = with_scores(model.taught, done, record)
    model.save_taught(folder)
    return record


def _add_costs(folder: Path, pictures: Pictures) -> None:
    """Add to a saved model and its card what a picture costs it."""
    model = from_pretrained(folder)
    graph = lower(model.image, model.config.image)
    costs = picture_costs(graph, pictures.images, f"{pictures.name} {pictures.split}")
    model.taught = dataclasses.replace(model.taught, costs=costs)
    model.save_taught(folder)


def _fired(model: Path, pictures: Pictures) -> dict[str, Any]:
    """How many pictures there are and how the saved model fires on them, as `SpikeCounts.summary` has it."""
    spikes = SpikeCounts()
    embed_pictures(Student(from_pretrained(model)), pictures, spikes=spikes)
    return {"pictures": len(pictures), "spikes": spikes.summary()}


def _test(config: RunConfig, student: Student, pictures: Pictures) -> dict[str, Any]:
    """The record of the test split: classification, or retrieval where pictures have captions only."""
    task = "zeroshot_retrieval" if pictures.labels is None else "zeroshot_classification"
    return evaluate_model(student, pictures, task=task, templates=config.data.templates, seed=config.seed)


def _graphs_allowed() -> AbstractContextManager:
    # The older name of recompile_limit, which every supported version has.
    return torch._dynamo.config.patch(cache_size_limit=GRAPHS)
