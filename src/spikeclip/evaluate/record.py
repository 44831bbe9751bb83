"""One result as one JSON record, in CLIP_benchmark's form with spikes and provenance added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import prompts_hash
from spikeclip.encode.embed import embed_pictures
from spikeclip.encode.encoder import Encoder
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.errors import unknown
from spikeclip.evaluate.tasks import LEARNING, PROMPTED, TASKS, Job, TaskSettings, check_task
from spikeclip.provenance import environment, protocol, training_runs, withheld_classes


def evaluate_model(
    encoder: Encoder,
    pictures: Pictures,
    *,
    task: str = "zeroshot_classification",
    templates: Sequence[str] | None = None,
    seed: int | None = None,
    pretrained: str | None = None,
) -> dict[str, Any]:
    """Return the record of `evaluate_tasks` for one task that needs nothing but the pictures."""
    settings = TaskSettings(templates=templates)
    (record,) = evaluate_tasks(encoder, pictures, [task], settings, seed=seed, pretrained=pretrained)
    return record


def evaluate_tasks(
    encoder: Encoder,
    pictures: Pictures,
    tasks: Sequence[str],
    settings: TaskSettings | None = None,
    *,
    seed: int | None = None,
    pretrained: str | None = None,
    batch_size: int = 256,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Evaluate a network on a split; return a record for each task, which `write_record` writes.

    tasks: of `TASKS`, run in that order; each split is embedded once for all of them. All need labels but
    zeroshot_retrieval, which needs captions and uses all of them. seed: of the training run, only noted. pretrained:
    where the weights are from; the recipe beside them says which data they saw.

    A record is CLIP_benchmark's {dataset, model, pretrained, task, metrics, language} and `curves` (lists of
    `Point` by name; empty for tasks without), `spikes` on the pictures of the split (see `SpikeCounts.summary`; None
    for a network without neurons) and `provenance`. Metrics are fractions. Raises `InputError` for an unknown task, a
    split that lacks what a task needs, and embeddings that are not numbers.
    """
    for task in tasks:
        if task not in TASKS:
            raise unknown("task", task, TASKS)
    settings = settings or TaskSettings()
    spikes, kept = SpikeCounts(), dict[str, np.ndarray]()

    def embed(part: Pictures | np.ndarray) -> np.ndarray:
        if not isinstance(part, Pictures):
            return embed_pictures(encoder, part, batch_size, progress)
        if part.fingerprint not in kept:
            counted = spikes if part is pictures else None
            kept[part.fingerprint] = embed_pictures(encoder, part, batch_size, progress, counted)
        return kept[part.fingerprint]

    runs = training_runs(pretrained)
    if settings.withheld is None:
        settings = replace(settings, withheld=withheld_classes(runs, pictures.name))
    job = Job(encoder, pictures, settings, embed, progress)
    taught = _taught(job, pretrained or encoder.name, set(tasks))
    for task in tasks:
        check_task(task, job)
    outcomes = {task: run(job) for task, run in TASKS.items() if task in tasks}
    provenance = {
        **environment(),
        **encoder.provenance,
        "fingerprint": encoder.fingerprint,
        "seed": seed,
        "data": _described(pictures),
        "protocol": protocol(runs, pictures.name),
        "runs": runs,
        "taught": taught,
        "energy_convention": None,
    }
    return [
        {
            "dataset": pictures.name,
            "model": encoder.name,
            "pretrained": pretrained,
            "task": task,
            "metrics": outcome.metrics,
            "curves": outcome.curves,
            "language": "en",
            "spikes": spikes.summary(),
            "provenance": {
                **provenance,
                "seeds": settings.seeds if outcome.curves else None,
                "training_data": [_described(part) for part in settings.training or ()]
                if task in LEARNING
                else None,
                "prompts": _prompts(job, outcome.names) if task in PROMPTED else None,
            },
        }
        for task, outcome in outcomes.items()
    ]


def _taught(job: Job, name: str, tasks: set[str]) -> dict[str, Any] | None:
    """The words that the network was taught with, None where it was taught with none; other ones are told."""
    taught, renames = job.encoder.taught, job.settings.renames
    if not (taught.templates or taught.renames):
        return None
    differs = False
    if tasks & set(PROMPTED):
        before = {new: old for old, new in renames.items()}
        classnames = [before.get(name, name) for name in job.pictures.classnames]
        differs = taught.warn_of_other(job.templates, classnames, renames, name)
    return {"templates": taught.templates, "renames": taught.renames, "differs": differs}


def _prompts(job: Job, names: Mapping[str, Any]) -> dict[str, Any]:
    classnames, templates = list(job.pictures.classnames), list(job.templates)
    return {
        "classnames": classnames,
        "templates": templates,
        "renames": dict(job.settings.renames),
        "hash": prompts_hash(classnames, templates),
        **names,
    }


def _described(pictures: Pictures) -> dict[str, Any]:
    return {
        "source": pictures.name,
        "split": pictures.split,
        "pictures": len(pictures),
        "skipped": len(pictures.skipped),
        "fingerprint": pictures.fingerprint,
    }
