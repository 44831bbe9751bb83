"""The model of a run before its first stage: a preset with changes, or a saved model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from spikeclip.config import ModelSettings, RunConfig, Taught
from spikeclip.data.transforms import normalize
from spikeclip.errors import InputError
from spikeclip.model import SpikeCLIP
from spikeclip.open import from_pretrained
from spikeclip.towers.image import ConvTower
from spikeclip.train.lessons import Lessons
from spikeclip.train.pictures import RunPictures

WHITENING_PICTURES = 5000


def taught_by(config: RunConfig, pictures: RunPictures, lessons: Lessons) -> Taught:
    """Return what a run teaches its model with, which is saved with the model."""
    data, path = config.data, config.teacher.path
    names_alone = lessons.teacher_texts_ND is None and len(lessons.prompt_rows) == len(lessons.texts)
    return Taught(
        templates=list(data.templates),
        renames=dict(data.classnames),
        classnames=list(pictures.classnames) if names_alone else [],
        sources=[data.source] if isinstance(data.source, str) else list(data.source),
        teacher=", ".join(path) if isinstance(path, list) else path,
        stages=[f"{stage.stage}, {stage.epochs} epochs" for stage in config.stages],
        seed=config.seed,
    )


def with_scores(
    taught: Taught, stages: Sequence[Mapping[str, Any]], test: Mapping[str, Any] | None
) -> Taught:
    """Return what a model was taught with and what it scores: on validation pictures, and in the record of its test."""
    scores = {f"{row['stage']}, {row['score']}": row["best"] for row in stages[-1:]}
    if test:
        where = f"{test['dataset']} {test['provenance']['data']['split']}"
        scores |= {f"{where}, {name}": value for name, value in test["metrics"].items()}
    finite = {name: float(value) for name, value in scores.items() if math.isfinite(value)}
    return dataclasses.replace(taught, scores=finite)


def build_model(settings: ModelSettings, pictures: RunPictures, lessons: Lessons) -> SpikeCLIP:
    """Build the run's model: vocabulary from the tokenizer, dimension from the teacher, whitening from the pictures.

    Raises `InputError` where a saved model or a setting does not fit the teacher or the tokenizer.
    """
    if settings.pretrained is not None:
        model = _pretrained(settings.pretrained, lessons)
    else:
        model = _new(settings, pictures, lessons)
    model.image.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _pretrained(folder: str, lessons: Lessons) -> SpikeCLIP:
    model = from_pretrained(folder)
    if lessons.embed_dim not in (None, model.config.embed_dim):
        raise InputError(
            f"{folder} embeds in {model.config.embed_dim} dimensions, the teacher in {lessons.embed_dim}"
        )
    if model.tokenizer is None:
        model.tokenizer = lessons.tokenizer
    tokenizer, text = model.tokenizer, model.config.text
    if tokenizer.vocab_size > text.vocab_size or tokenizer.eos_id != text.eos_id:
        raise InputError(
            f"{folder} has no tokenizer and reads {text.vocab_size} tokens that end in {text.eos_id}, the run's "
            f"has {tokenizer.vocab_size} that end in {tokenizer.eos_id}: set `tokenizer`"
        )
    return model


def _new(settings: ModelSettings, pictures: RunPictures, lessons: Lessons) -> SpikeCLIP:
    tokenizer, dim = lessons.tokenizer, lessons.embed_dim
    if dim is not None and settings.embed_dim not in (None, dim):
        raise InputError(f"model.embed_dim is {settings.embed_dim}, but the teacher's is {dim}")
    text = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, **(settings.text or {})}
    embed_dim = dim if settings.embed_dim is None else settings.embed_dim
    fitted = dataclasses.replace(settings, text=text, embed_dim=embed_dim)
    model = SpikeCLIP(fitted.resolve(), tokenizer)
    if isinstance(model.image, ConvTower):
        pixels = torch.from_numpy(pictures.splits["train"].images[:WHITENING_PICTURES])
        x = normalize(pixels, *model.config.image.normalization)
        model.image.whiten.fit(x.flatten(0, -4))  # every frame of a recording is a picture
    return model
