"""One result as one JSON record, in CLIP_benchmark's form with spikes and provenance added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from spikeclip.config import to_dict
from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import prompts_hash
from spikeclip.encode.student import weights_hash
from spikeclip.errors import unknown
from spikeclip.evaluate.rates import RateMeter
from spikeclip.evaluate.tasks import LEARNING, PROMPTED, TASKS, Job, run_task
from spikeclip.evaluate.zero_shot import embed_pictures
from spikeclip.model import SpikeCLIP
from spikeclip.provenance import environment, protocol, training_runs, withheld_classes
from spikeclip.teacher import Teacher


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
    """Return the record of `evaluate_tasks` for one task that needs nothing but the pictures."""
    (record,) = evaluate_tasks(
        model,
        pictures,
        [task],
        templates=templates,
        seed=seed,
        pretrained=pretrained,
        batch_size=batch_size,
        bf16=bf16,
        progress=progress,
    )
    return record


def evaluate_tasks(
    model: SpikeCLIP | Teacher,
    pictures: Pictures,
    tasks: Sequence[str],
    *,
    templates: Sequence[str] = ("a photo of a {c}.",),
    training: tuple[Pictures, Pictures] | None = None,
    seeds: int = 5,
    distractors: Sequence[str] | None = None,
    near: Mapping[str, Sequence[str]] | None = None,
    withheld: Sequence[str] | None = None,
    seed: int | None = None,
    pretrained: str | None = None,
    batch_size: int = 256,
    bf16: bool = False,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Evaluate a model or a teacher on a split; return a record for each task, which `write_record` writes.

    tasks: of `TASKS`, run in that order; each split is embedded once for all of them. All need labels but
    zeroshot_retrieval, which needs captions and uses all of them. training: (to learn from, to select by), as from
    `load_training`, for linear_probe and few_shot. seeds: draws of shots, of `distractors` (names to add; None for
    common nouns) and of `near` (names that may replace a class; None for ours). withheld: classes that training did
    not see; None for those that the recipes say. seed: of the training run, only noted. pretrained: where the weights
    are from; the recipe beside them tells what they saw.

    A record is CLIP_benchmark's {dataset, model, pretrained, task, metrics, language} and `curves` (lists of
    `Point` by name; empty for tasks without), `spikes` on the pictures of the split (see `mean_rates`; None for a
    teacher) and `provenance`. Metrics are fractions. Raises `InputError` for an unknown task, a split that lacks
    what a task needs, and embeddings that are not numbers.
    """
    for task in tasks:
        if task not in TASKS:
            raise unknown("task", task, TASKS)
    meter, made = RateMeter(), dict[str, Tensor]()

    def embed(part: Pictures | Tensor) -> Tensor:
        if isinstance(part, Tensor):
            return embed_pictures(model, part, batch_size, progress, bf16)
        if part.fingerprint not in made:
            watch = {"watch": meter.watch} if part is pictures else {}
            made[part.fingerprint] = embed_pictures(model, part, batch_size, progress, bf16, **watch)
        return made[part.fingerprint]

    runs = training_runs(pretrained)
    if withheld is None:
        withheld = withheld_classes(runs, pictures.name)
    job = Job(model, pictures, templates, embed, training, seeds, distractors, near, withheld, progress)
    outcomes = {task: run_task(task, job) for task in TASKS if task in tasks}
    ours = isinstance(model, SpikeCLIP)
    name, spikes = (model.config.name, meter.summary()) if ours else (model.name, None)
    provenance = {
        **environment(),
        "config": to_dict(model.config) if ours else None,
        "weights": weights_hash(model) if ours else model.fingerprint,
        "precision": "bf16" if bf16 and ours else "fp32" if ours else None,
        "seed": seed,
        "data": _described(pictures),
        "protocol": protocol(runs, pictures.name),
        "runs": runs,
        "energy_convention": None,
    }
    return [
        {
            "dataset": pictures.name,
            "model": name,
            "pretrained": pretrained,
            "task": task,
            "metrics": outcome.metrics,
            "curves": outcome.curves,
            "language": "en",
            "spikes": spikes,
            "provenance": {
                **provenance,
                "seeds": seeds if outcome.curves else None,
                "training_data": [_described(part) for part in training or ()] if task in LEARNING else None,
                "prompts": _prompts(job, outcome.names) if task in PROMPTED else None,
            },
        }
        for task, outcome in outcomes.items()
    ]


def _prompts(job: Job, names: Mapping[str, Any]) -> dict[str, Any]:
    classnames, templates = list(job.pictures.classnames), list(job.templates)
    return {
        "classnames": classnames,
        "templates": templates,
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
