"""One result as one JSON record, in CLIP_benchmark's form with spikes and provenance added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spikeclip.config import to_dict
from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import load_prompts, prompts_hash, with_classnames
from spikeclip.errors import InputError, unknown
from spikeclip.evaluate.provenance import environment, weights_hash
from spikeclip.evaluate.rates import RateMeter
from spikeclip.evaluate.retrieval import retrieval_metrics
from spikeclip.evaluate.zero_shot import class_embeddings, embed_pictures, embed_texts, zero_shot_metrics
from spikeclip.model import SpikeCLIP
from spikeclip.teacher import Teacher

TASKS = ("zeroshot_classification", "zeroshot_retrieval")


def evaluate_model(
    model: SpikeCLIP | Teacher,
    pictures: Pictures,
    *,
    task: str = "zeroshot_classification",
    templates: Sequence[str] = ("a photo of a {c}.",),
    seed: int | None = None,
    pretrained: str | None = None,
    batch_size: int = 256,
    bf16: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Evaluate a model or a teacher on a split and return the record that `write_record` writes.

    task: zeroshot_classification (needs labels; uses `templates`) or zeroshot_retrieval (needs captions, all
    of them). seed, pretrained: of the training run and of the weights, where known; they are only noted.

    The record is CLIP_benchmark's {dataset, model, pretrained, task, metrics, language} and `spikes` (see
    `mean_rates`; None for a teacher) and `provenance`. Metrics are fractions. Raises `InputError` for an
    unknown task, a split that lacks what the task needs, and embeddings that are not numbers.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    meter = RateMeter()
    if task == "zeroshot_classification":
        if pictures.labels is None:
            raise InputError(f"{pictures.name} {pictures.split} has no labels: use task zeroshot_retrieval")
        classes_KD = class_embeddings(model, pictures.classnames, templates, batch_size)
        images_ND = embed_pictures(model, pictures, batch_size, progress, bf16, meter.watch)
        metrics = zero_shot_metrics(images_ND, pictures.labels, classes_KD)
        prompts = {
            "classnames": list(pictures.classnames),
            "templates": list(templates),
            "hash": prompts_hash(pictures.classnames, templates),
        }
    else:
        if pictures.captions is None:
            raise InputError(
                f"{pictures.name} {pictures.split} has no captions: use task zeroshot_classification"
            )
        owners = np.repeat(np.arange(len(pictures)), [len(texts) for texts in pictures.captions])
        texts_MD = embed_texts(model, [t for texts in pictures.captions for t in texts], batch_size)
        images_ND = embed_pictures(model, pictures, batch_size, progress, bf16, meter.watch)
        metrics = retrieval_metrics(images_ND, texts_MD, owners)
        prompts = None
    ours = isinstance(model, SpikeCLIP)
    return {
        "dataset": pictures.name,
        "model": model.config.name if ours else model.name,
        "pretrained": pretrained,
        "task": task,
        "metrics": metrics,
        "language": "en",
        "spikes": meter.summary() if ours else None,
        "provenance": {
            **environment(),
            "config": to_dict(model.config) if ours else None,
            "weights": weights_hash(model) if ours else model.fingerprint,
            "precision": "bf16" if bf16 and ours else "fp32" if ours else None,
            "seed": seed,
            "data": {
                "source": pictures.name,
                "split": pictures.split,
                "pictures": len(pictures),
                "skipped": len(pictures.skipped),
                "fingerprint": pictures.fingerprint,
            },
            "prompts": prompts,
            "energy_convention": None,
        },
    }


def with_prompts(pictures: Pictures, name: str) -> tuple[Pictures, list[str]]:
    """Return `with_classnames(pictures, name)` and the templates; raises `InputError` as it does."""
    return with_classnames(pictures, name), load_prompts(name).templates
