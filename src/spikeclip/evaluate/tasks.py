"""What a network can be tested on: each task is a function from a `Job` to metrics and curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import text_key
from spikeclip.data.sources import warn_of_new_classes
from spikeclip.encode.embed import embed_texts, zero_shot_classifier
from spikeclip.encode.encoder import Encoder
from spikeclip.errors import InputError, unknown
from spikeclip.evaluate.corruption import CORRUPTIONS, corrupt
from spikeclip.evaluate.label_sets import (
    distractors_of,
    expanded_labels,
    load_distractors,
    load_near_names,
    near_names_of,
    open_vocabulary,
    unseen_labels,
)
from spikeclip.evaluate.retrieval import retrieval_metrics
from spikeclip.evaluate.shots import HELD_SHOTS, SHOTS, draw_shots
from spikeclip.evaluate.statistics import Point, point
from spikeclip.evaluate.zero_shot import Labelled, zero_shot_metrics
from spikeclip.progress import tracked

_CHUNK = 4096  # pictures that are held in a corrupted copy


@dataclass(frozen=True)
class TaskSettings:
    """What tasks need besides a network and the pictures of a split."""

    templates: Sequence[str] | None = None
    """Prompts of a class; {c} is its name. None for those that the network was taught with."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Class names of the data that were replaced in the pictures, old name: new name; they are only noted."""
    training: tuple[Pictures, Pictures] | None = None
    """Pictures to learn from and to select by, as of `load_training`, for linear_probe and few_shot."""
    seeds: int = 5
    """Draws of shots, of `distractors` and of `near`."""
    distractors: Sequence[str] | None = None
    """Names to add to the classes; None for common nouns."""
    near: Mapping[str, Sequence[str]] | None = None
    """Names that may replace a class; None for those of `label_sets.json`."""
    withheld: Sequence[str] | None = None
    """Classes that training did not see; None for those that the recipes beside the weights withheld."""


@dataclass(frozen=True)
class Job:
    """A network, the pictures of a split, and what the tasks need besides."""

    encoder: Encoder
    pictures: Pictures
    settings: TaskSettings
    embed: Callable[[Pictures | np.ndarray], np.ndarray]
    """Embeddings (N, D) of unit length of a split, which are kept, or of pictures (N, H, W, 3) uint8."""
    progress: bool

    @cached_property
    def classes_KD(self) -> np.ndarray:
        """The zero-shot classifier."""
        return self.embed_names(self.pictures.classnames)

    @property
    def templates(self) -> Sequence[str]:
        return self.settings.templates or self.encoder.taught.prompts

    def embed_names(self, names: Sequence[str]) -> np.ndarray:
        return zero_shot_classifier(self.encoder, names, self.templates)


@dataclass(frozen=True)
class Outcome:
    """metrics: fractions, of curves the first and the last point, of corruptions the mean over strengths. curves: by
    name. names: the words that stood beside the classes or replaced them, or the classes withheld."""

    metrics: dict[str, float]
    curves: dict[str, list[Point]] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)


def _classification(job: Job) -> Outcome:
    return Outcome(zero_shot_metrics(*_labelled(job, job.pictures), job.classes_KD))


def _retrieval(job: Job) -> Outcome:
    captions = job.pictures.captions
    assert captions is not None
    owners = np.repeat(np.arange(len(captions)), [len(texts) for texts in captions])
    texts_MD = embed_texts(job.encoder, [text for texts in captions for text in texts])
    return Outcome(retrieval_metrics(job.embed(job.pictures), texts_MD, owners))


def _linear_probe(job: Job) -> Outcome:
    from spikeclip.evaluate.probe import linear_probe

    assert job.settings.training is not None
    learn, held = (_labelled(job, part) for part in job.settings.training)
    test, classes = _labelled(job, job.pictures), len(job.pictures.classnames)
    return Outcome(linear_probe(learn, held, test, classes, job.progress)[0])


def _few_shot(job: Job) -> Outcome:
    from spikeclip.evaluate.probe import linear_probe

    assert job.settings.training is not None
    (learn, learn_SKM), (held, held_SKM) = (
        _shots(job, part, most)
        for part, most in zip(job.settings.training, (SHOTS[-1], HELD_SHOTS), strict=True)
    )
    test, classes = _labelled(job, job.pictures), len(job.pictures.classnames)
    values: dict[int, list[float]] = {k: [] for k in SHOTS if k <= learn_SKM.shape[2]}
    draws = [(k, seed) for k in values for seed in range(job.settings.seeds)]
    for k, seed in tracked(draws, "probes", shown=job.progress):
        chosen = ((learn, learn_SKM[seed, :, :k].flatten()), (held, held_SKM[seed, :, :k].flatten()))
        few, few_held = ((rows_ND[places], labels_N[places]) for (rows_ND, labels_N), places in chosen)
        values[k].append(linear_probe(few, few_held, test, classes)[0]["acc1"])
    zero_shot = zero_shot_metrics(*test, job.classes_KD)["acc1"]
    points = [point(0, [zero_shot]), *(point(k, accuracies) for k, accuracies in values.items())]
    return Outcome({f"acc1_{p['x']}_shot": p["mean"] for p in points}, {"accuracy": points})


def _shots(job: Job, pictures: Pictures, most: int) -> tuple[Labelled, np.ndarray]:
    """The pictures that the seeds draw, embedded, and the places in them of each seed's shots (seeds, K, most)."""
    labels_N = np.asarray(pictures.labels, np.int64)
    drawn_SKM = np.stack([draw_shots(labels_N, most, seed) for seed in range(job.settings.seeds)])
    rows = np.unique(drawn_SKM)  # a few hundred of what may be a million
    return _labelled(job, pictures.subset(rows)), np.searchsorted(rows, drawn_SKM)


def _expanded_labels(job: Job) -> Outcome:
    given = load_distractors() if job.settings.distractors is None else job.settings.distractors
    names = distractors_of(job.pictures.classnames, given)
    pictures = _labelled(job, job.pictures)
    points = expanded_labels(*pictures, job.classes_KD, job.embed_names(names), job.settings.seeds)
    metrics = {"acc1": points[0]["mean"], "acc1_expanded": points[-1]["mean"]}
    return Outcome(metrics, {"accuracy": points}, {"distractors": names})


def _unseen_labels(job: Job) -> Outcome:
    near = near_names_of(
        job.pictures.classnames, load_near_names() if job.settings.near is None else job.settings.near
    )
    names = sorted({name for others in near.values() for name in others})
    embeddings = dict(zip(names, job.embed_names(names), strict=True))
    pictures = _labelled(job, job.pictures)
    everywhere, replaced = unseen_labels(*pictures, job.classes_KD, near, embeddings, job.settings.seeds)
    metrics = {"acc1": everywhere[0]["mean"], "acc1_unseen": everywhere[-1]["mean"]}
    curves = {"all pictures": everywhere, "pictures of replaced classes": replaced}
    return Outcome(metrics, curves, {"near": {job.pictures.classnames[i]: near[i] for i in near}})


def _open_vocabulary(job: Job) -> Outcome:
    withheld_names = job.settings.withheld or ()
    keys = [text_key(name) for name in job.pictures.classnames]
    for name in withheld_names:
        if text_key(name) not in keys:
            raise unknown(f"withheld class of {job.pictures.name}", name, job.pictures.classnames)
    withheld = [keys.index(text_key(name)) for name in withheld_names]
    metrics = open_vocabulary(*_labelled(job, job.pictures), job.classes_KD, withheld)
    return Outcome(metrics, names={"withheld": [job.pictures.classnames[label] for label in withheld]})


def _corruption(job: Job) -> Outcome:
    images, (clean_ND, labels_N) = job.pictures.images, _labelled(job, job.pictures)

    def accuracy(kind: str, strength: int) -> float:
        parts = [
            job.embed(corrupt(images[i : i + _CHUNK], kind, strength, seed=i))
            for i in range(0, len(images), _CHUNK)
        ]
        return zero_shot_metrics(np.concatenate(parts), labels_N, job.classes_KD)["acc1"]

    clean = zero_shot_metrics(clean_ND, labels_N, job.classes_KD)["acc1"]
    curves = {
        kind: [point(0, [clean])] + [point(s, [accuracy(kind, s)]) for s in range(1, len(strengths) + 1)]
        for kind, strengths in CORRUPTIONS.items()
    }
    means = {f"acc1_{kind}": float(np.mean([p["mean"] for p in ps[1:]])) for kind, ps in curves.items()}
    return Outcome({"acc1": clean, **means}, curves)


def _labelled(job: Job, pictures: Pictures) -> Labelled:
    return job.embed(pictures), np.asarray(pictures.labels, np.int64)


TASKS: dict[str, Callable[[Job], Outcome]] = {
    "zeroshot_classification": _classification,
    "zeroshot_retrieval": _retrieval,
    "linear_probe": _linear_probe,
    "few_shot": _few_shot,
    "expanded_labels": _expanded_labels,
    "unseen_labels": _unseen_labels,
    "open_vocabulary": _open_vocabulary,
    "corruption": _corruption,
}
"""The first three as CLIP_benchmark names them."""
LEARNING = ("linear_probe", "few_shot")
"""Tasks that learn from training pictures."""
PROMPTED = tuple(task for task in TASKS if task not in ("zeroshot_retrieval", "linear_probe"))
"""Tasks that read class names."""


def check_task(task: str, job: Job) -> None:
    """Raise `InputError` where the data lacks what a task of `TASKS` needs."""
    pictures, where = job.pictures, f"{job.pictures.name} {job.pictures.split}"
    training = job.settings.training
    if job.settings.seeds < 1:
        raise InputError(f"seeds must be at least 1, got {job.settings.seeds}")
    if task == "zeroshot_retrieval":
        if pictures.captions is None:
            raise InputError(f"{where} has no captions: use task zeroshot_classification")
    elif pictures.labels is None:
        raise InputError(f"{where} has no labels: use task zeroshot_retrieval")
    elif len(pictures.classnames) == 1:
        raise InputError(
            f"{where}: every label is {pictures.classnames[0]!r}; one class is no classification"
        )
    if task == "corruption" and pictures.images.shape[-1] != 3:
        raise InputError(f"{where} holds event recordings: corruption is of pictures")
    if task in LEARNING:
        if training is None or training[0].labels is None:
            raise InputError(f"{task} learns from labelled pictures: give it a training split")
        if (training[0].name, training[0].split) == (pictures.name, pictures.split):
            raise InputError(
                f"{task} would learn from the pictures that it is tested on, {where}: test on another split than the "
                "training split (--split, --train-split)"
            )
        if training[0].classnames != pictures.classnames:
            raise InputError(f"{where} and its training split {training[0].split} have different classes")
        warn_of_new_classes(pictures, [pictures.classnames[i] for i in np.unique(training[0].labels)])
