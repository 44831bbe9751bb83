"""Several models on several data sets and tasks: from names to records, a comparison and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from spikeclip.config import ImageFormat, Taught
from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import load_prompts, with_classnames
from spikeclip.data.sources import Splits, load_pictures, load_training, rename, rename_classes
from spikeclip.defaults import CACHE
from spikeclip.encode.encoder import format_of
from spikeclip.errors import InputError, unknown
from spikeclip.evaluate.compare import compare_records, curves_figure, retention_figure
from spikeclip.evaluate.record import evaluate_tasks
from spikeclip.evaluate.tasks import LEARNING, TASKS, TaskSettings
from spikeclip.figures import save_figure
from spikeclip.open import open_encoder, taught_with
from spikeclip.records import write_record

VAL_FRACTION = 0.1
"""Of a training split without a validation split beside it, to choose a probe's penalty by."""


@dataclass(frozen=True)
class Evaluation:
    """Which models are tested, on what."""

    models: Sequence[str]
    """Each a model or teacher, as `open_encoder` takes it."""
    data: Sequence[str]
    """Data sets, as `load_pictures` takes them."""
    split: str = "test"
    """Split of each that is tested on."""
    tasks: Sequence[str] = ("zeroshot_classification",)
    """Names of `TASKS`."""
    settings: TaskSettings = field(default_factory=TaskSettings)
    """What the tasks need; `training` is loaded here."""
    train_split: str = "train"
    """Split that probes learn from."""
    prompts: str | None = None
    """Known data set or file whose class names and templates take the place of the data's."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Class names to replace, old name: new name; without any, those that fit of what the models were taught with."""
    limit: int | None = None
    """Use only this many pictures of a split."""
    batch_size: int = 256
    """Pictures at a time."""
    engine: Literal["fp32", "int8"] | None = None
    """Run on the event-driven engine."""
    bf16: bool = False
    """Matrix products of networks in PyTorch in bfloat16."""
    cache: str = CACHE
    """Folder of decoded pictures."""

    def __post_init__(self) -> None:
        if self.prompts and (self.rename or self.settings.templates is not None):
            raise InputError("--prompts brings class names and templates: leave out --template and --rename")
        if self.prompts and len(self.data) > 1:
            raise InputError("--prompts names the classes of one data set: evaluate the others by themselves")
        for name in self.tasks:
            if name not in TASKS:
                raise unknown("task", name, TASKS)


def evaluate_models(evaluation: Evaluation, progress: bool = True) -> list[dict[str, Any]]:
    """Return a record for each model, data set and task, as `evaluate_tasks` makes them.

    Raises `InputError` for a model, data set or name that does not exist, and where a task lacks what it needs.
    """
    taught = _taught(evaluation)
    settings = replace(evaluation.settings, templates=taught.templates or None)
    records = []
    loaded: dict[ImageFormat, list[tuple[Pictures, tuple[Pictures, Pictures] | None]]] = {}
    for model in evaluation.models:
        encoder = open_encoder(
            model, evaluation.engine, bf16=evaluation.bf16, batch_size=evaluation.batch_size
        )
        format = format_of(encoder)
        if format not in loaded:  # models that read the same pictures share them
            loaded[format] = list(
                zip(_tests(evaluation, taught, format), _training(evaluation, taught, format), strict=True)
            )
        for pictures, training in loaded[format]:
            records += evaluate_tasks(
                encoder,
                pictures,
                evaluation.tasks,
                replace(settings, training=training),
                pretrained=model,
                batch_size=evaluation.batch_size,
                progress=progress,
            )
    return records


def save_results(records: Sequence[Mapping[str, Any]], out: Path) -> list[dict[str, Any]]:
    """Write one record, or several and their comparison, to the file `out`; return the rows of the comparison.

    Raises `InputError` where `out` is a folder.
    """
    if len(records) == 1:
        write_record(records[0], out)
        return []
    rows = compare_records(records)
    write_record({"records": records, "comparison": rows}, out)
    return rows


def draw_results(
    records: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], out: Path
) -> list[Path]:
    """Draw what `save_results` wrote, beside it; return the files.

    Tasks with curves are drawn, and of three models or more on several data sets what each keeps of the others.
    Raises `InputError` where matplotlib is not installed and there is something to draw.
    """
    figures = []
    classified = [row for row in rows if row["task"] == "zeroshot_classification" and row["metric"] == "acc1"]
    if len(classified) > 1 and len(classified[0]["values"]) > 2:
        figures.append(out.with_name(f"{out.stem}-retention.png"))
        save_figure(retention_figure(rows), figures[-1])
    for name in TASKS:
        drawn = [record for record in records if record["task"] == name and record["curves"]]
        if drawn:
            figures.append(out.with_name(f"{out.stem}-{name}.png"))
            save_figure(curves_figure(drawn), figures[-1])
    return figures


def _tests(evaluation: Evaluation, taught: Taught, format: ImageFormat) -> list[Pictures]:
    shared = {"cache": evaluation.cache, "limit": evaluation.limit}
    parts = [load_pictures(source, evaluation.split, format, **shared) for source in evaluation.data]
    return _named(evaluation, taught, parts)


def _training(
    evaluation: Evaluation, taught: Taught, format: ImageFormat
) -> list[tuple[Pictures, Pictures] | None]:
    if not set(evaluation.tasks) & set(LEARNING):
        return [None] * len(evaluation.data)
    shared = {"cache": evaluation.cache, "limit": evaluation.limit}
    splits = Splits(VAL_FRACTION, train=evaluation.train_split, test=evaluation.split)
    pairs = [load_training(source, format, splits, **shared) for source in evaluation.data]
    learn, held = (_named(evaluation, taught, list(parts)) for parts in zip(*pairs, strict=True))
    return list(zip(learn, held, strict=True))


def _named(evaluation: Evaluation, taught: Taught, parts: list[Pictures]) -> list[Pictures]:
    if evaluation.prompts:
        return [with_classnames(part, evaluation.prompts) for part in parts]
    if evaluation.rename:
        return rename_classes(parts, evaluation.rename)
    return [rename(part, taught.renames_of(part.classnames)) for part in parts]


def _taught(evaluation: Evaluation) -> Taught:
    """Return the templates and renames of all models, one for all of them, so that their answers compare.

    Templates that were given, or else those of the first model that was taught with any; the first model's renames
    come before those of the next.
    """
    if evaluation.prompts:
        return Taught(load_prompts(evaluation.prompts).templates)
    taught = [taught_with(model) for model in evaluation.models]
    templates = evaluation.settings.templates or next((t.templates for t in taught if t.templates), [])
    return Taught(list(templates), {old: new for t in reversed(taught) for old, new in t.renames.items()})
