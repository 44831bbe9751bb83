"""Training of a small CLIP from random weights on pictures and their captions, to be a teacher."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from spikeclip.config import AugmentConfig, OptimizerConfig, StageConfig, TeacherTraining, to_dict
from spikeclip.config.ranges import check_ranges
from spikeclip.data.pictures import Pictures
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.errors import InputError
from spikeclip.files import check_free
from spikeclip.train.checkpoint import load_checkpoint, save_checkpoint
from spikeclip.train.clip import HEAD_WIDTH, ClipNetwork
from spikeclip.train.folder import BOARDS, CHECKPOINT, begin, check_start, clear, foreign, locked
from spikeclip.train.folder import LOG as ROWS
from spikeclip.train.loop import run_stage
from spikeclip.train.precision import resolve_precision
from spikeclip.train.report import Report
from spikeclip.train.session import open_session
from spikeclip.train.stages.captions import Captions, captioned, first_captions
from spikeclip.train.statistics import check_batch

LOG = "log"
"""Folder in a saved teacher with the metrics.jsonl and the TensorBoard of its training."""
WRITTEN = ("*.json", "model.safetensors", f"{LOG}/{ROWS}", f"{LOG}/{BOARDS}")
"""All that a saved teacher consists of."""
_HELD = ("progress", "model", "optimizers")


def train_teacher(
    pictures: Pictures,
    validation: Pictures,
    out: Path,
    settings: TeacherTraining,
    *,
    resume: bool = False,
    overwrite: bool = False,
    title: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a CLIP from random weights and save it to `out` in Hugging Face's format, for `open_teacher`.

    pictures, validation: with captions, or with labels, which add the caption "a photo of a {c}.". At each step
    one of a picture's captions is drawn, and none of its captions is a negative. The weights with the best validation
    score are kept, and `out` appears whole at the end or not at all; a teacher that was there is replaced.

    Meanwhile recipe.json, checkpoint.pt, metrics.jsonl and tensorboard/ are in `out`.training, beside it. At the end
    the last two move to `out`/log and the folder goes; a training that fails before its first checkpoint leaves
    nothing, and only one process at a time trains there. `resume` continues from the checkpoint with the same settings
    and pictures, to the same weights; `overwrite` removes an interrupted training and starts anew.

    Returns {"val_recall@1" (share of pictures whose nearest text, of all first captions, is theirs) or, without
    captions, "val_acc1", "best_epoch", "epochs", "seconds", "parameters", "logit_scale", "history"}. Raises
    `InputError` for settings that do not fit, for pictures without captions or labels, for an `out` that holds
    something else than a teacher, for nothing to resume or another training there, and when the loss stops being a
    number; and `Interrupted` after Ctrl-C.
    """
    _check(pictures, out, settings)
    training, held = captioned(pictures), captioned(first_captions(validation))
    tokenizer = Tokenizer.train(training.texts, settings.vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = ClipNetwork(settings, pictures.images.shape[1], tokenizer)
    accelerator = Accelerator()
    model.to(accelerator.device)
    folder = out.with_name(f"{out.name}.training")
    checkpoint = folder / CHECKPOINT
    main = accelerator.is_main_process
    stage = Captions(_stage_config(settings, pictures), settings.seed, model, training, held)
    # Its warning is of BatchNorm, which CLIP lacks.
    check_batch(stage.config, stage.samples, accelerator.num_processes)
    report = Report(folder, main, title, quiet)
    data = {"pictures": pictures.fingerprint, "validation": validation.fingerprint}
    recipe = {**to_dict(settings), **data}
    precision = resolve_precision("auto", accelerator.device.type)

    def changed(before: dict[str, Any]) -> list[str]:
        return [key for key, value in recipe.items() if before.get(key) != value]

    def save(state: dict[str, Any]) -> None:
        if main:
            save_checkpoint(checkpoint, state)

    with locked(folder, "training", main):
        if main:
            check_start(folder, "training", changed, resume, overwrite)
        accelerator.wait_for_everyone()
        state = load_checkpoint(checkpoint, _HELD) if resume and checkpoint.exists() else None
        if main:
            begin(folder, recipe, resume)
        try:
            with open_session(
                accelerator, report, precision, checkpoint, settings.checkpoint_minutes
            ) as session:
                progress = run_stage(model, stage, session, index=0, save=save, state=state)
            if main:
                _save(model, out, folder)
                clear(folder)
            accelerator.wait_for_everyone()
        finally:
            if main and not checkpoint.exists():
                clear(folder)
    return {
        stage.score_name: progress.best_score,
        "best_epoch": progress.best_step * settings.epochs // progress.step,
        "epochs": settings.epochs,
        "seconds": progress.seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
        "logit_scale": model.logit_scale.item(),
        "history": progress.history,
    }


def _check(pictures: Pictures, out: Path, settings: TeacherTraining) -> None:
    side = pictures.images.shape[1]
    check_ranges(settings)
    if settings.width % HEAD_WIDTH:
        raise InputError(f"width must be a multiple of {HEAD_WIDTH}, got {settings.width}")
    if side % settings.patch_size:
        raise InputError(
            f"patch_size must divide the pictures' side of {side} pixels, got {settings.patch_size}"
        )
    teacher = all((out / name).is_file() for name in ("config.json", "model.safetensors"))
    check_free(out, "teacher", teacher)
    if others := foreign(out, WRITTEN):
        raise InputError(
            f"{out} holds {others[0]}, which no training of a teacher wrote: choose another --out"
        )


def _stage_config(settings: TeacherTraining, pictures: Pictures) -> StageConfig:
    # No flips where captions may name left and right.
    flip = "random" if pictures.captions is None else "none"
    return StageConfig(
        stage="contrastive",
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        optimizer=OptimizerConfig(lr=settings.lr, weight_decay=0.1, warmup=0.1, clip_norm=1.0),
        augment=AugmentConfig(crop=1, flip=flip),
    )


def _save(model: ClipNetwork, out: Path, training: Path) -> None:
    """Write the teacher and the log of its training beside `out` and rename it, so that no one meets half of it."""
    new, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        new.mkdir()
        model.save(new)
        (new / LOG).mkdir()
        shutil.copy(training / ROWS, new / LOG)
        shutil.copytree(training / "tensorboard", new / LOG / "tensorboard")
        if out.exists():
            out.rename(old)
        new.rename(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not out.exists():  # interrupted between the two
            old.rename(out)
        shutil.rmtree(old, ignore_errors=True)
