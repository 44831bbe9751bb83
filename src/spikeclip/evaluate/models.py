"""Several models on several data sets and tasks: from names to records, a comparison and figures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
from spikeclip.figures import can_draw, save_figure
from spikeclip.open import open_encoder, taught_with
from spikeclip.records import check_replaced, write_record

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
    """Class names to replace, old name: new name; without any, each model has those that it was taught with."""
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

    Where no words are given, each model is asked with those that it was taught with, whichever others there are.
    Raises `InputError` for a model, data set or name that does not exist, and where a task lacks what it needs.
    """
    settings = evaluation.settings
    if evaluation.prompts:
        settings = replace(settings, templates=load_prompts(evaluation.prompts).templates)
    taught = [taught_with(model) for model in evaluation.models]  # a model that is not there is told at once
    records = []
    loaded: dict[ImageFormat, list[tuple[Pictures, tuple[Pictures, Pictures] | None]]] = {}
    for model, words in zip(evaluation.models, taught, strict=True):
        encoder = open_encoder(
            model, evaluation.engine, bf16=evaluation.bf16, batch_size=evaluation.batch_size
        )
        format = format_of(encoder)
        if format not in loaded:  # models that read the same pictures share them
            loaded[format] = list(zip(_tests(evaluation, format), _training(evaluation, format), strict=True))
        for pictures, training in loaded[format]:
            renames = _renames(evaluation, words, pictures.classnames)
            records += evaluate_tasks(
                encoder,
                rename(pictures, renames),
                evaluation.tasks,
                replace(settings, renames=renames, training=training and _renamed(training, renames)),
                pretrained=model,
                batch_size=evaluation.batch_size,
                progress=progress,
            )
    _warn_of_differences(records)
    return records


def check_out(evaluation: Evaluation, out: Path) -> None:
    """Warn where the file `out` holds the result of other models or data, which the new one will replace.

    Raises `InputError` for a folder and for a file that is no result.
    """
    if out.is_dir():
        raise InputError(f"{out} is a folder; --out names the file of the result")
    sources = [Path(source).expanduser().resolve().name for source in evaluation.data]
    check_replaced(out, _about(evaluation.models, sources), _result_about)


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
    Where there is something to draw and matplotlib is not installed, a warning says that it is left out.
    """
    drawings: dict[str, Callable[[], Any]] = {}
    classified = [row for row in rows if row["task"] == "zeroshot_classification" and row["metric"] == "acc1"]
    if len(classified) > 1 and len(classified[0]["values"]) > 2:
        drawings["retention"] = partial(retention_figure, rows)
    for name in TASKS:
        drawn = [record for record in records if record["task"] == name and record["curves"]]
        if drawn:
            drawings[name] = partial(curves_figure, drawn)
    if not (drawings and can_draw()):
        return []
    figures = [out.with_name(f"{out.stem}-{name}.png") for name in drawings]
    for file, draw in zip(figures, drawings.values(), strict=True):
        save_figure(draw(), file)
    return figures


def _result_about(result: Mapping[str, Any]) -> str:
    records = result.get("records") or [result]
    models, data = zip(*((record["pretrained"], record["dataset"]) for record in records), strict=True)
    return _about(models, [Path(name).name for name in data])


def _about(models: Sequence[str], data: Sequence[str]) -> str:
    return " on ".join(" and ".join(dict.fromkeys(names)) for names in (models, data))


def _tests(evaluation: Evaluation, format: ImageFormat) -> list[Pictures]:
    shared = {"cache": evaluation.cache, "limit": evaluation.limit}
    parts = [load_pictures(source, evaluation.split, format, **shared) for source in evaluation.data]
    rename_classes(parts, evaluation.rename)  # a name that none of them has is a mistake
    return [_prompted(evaluation, part) for part in parts]


def _training(evaluation: Evaluation, format: ImageFormat) -> list[tuple[Pictures, Pictures] | None]:
    if not set(evaluation.tasks) & set(LEARNING):
        return [None] * len(evaluation.data)
    shared = {"cache": evaluation.cache, "limit": evaluation.limit}
    splits = Splits(VAL_FRACTION, train=evaluation.train_split, test=evaluation.split)
    pairs = [load_training(source, format, splits, **shared) for source in evaluation.data]
    return [(_prompted(evaluation, learn), _prompted(evaluation, held)) for learn, held in pairs]


def _prompted(evaluation: Evaluation, pictures: Pictures) -> Pictures:
    return with_classnames(pictures, evaluation.prompts) if evaluation.prompts else pictures


def _renames(evaluation: Evaluation, taught: Taught, classnames: Sequence[str]) -> dict[str, str]:
    """What replaces class names: what was given for all models, or else what this one was taught with."""
    if evaluation.prompts or evaluation.rename:
        return {old: new for old, new in evaluation.rename.items() if old in classnames}
    return taught.renames_of(classnames)


def _renamed(training: tuple[Pictures, Pictures], renames: dict[str, str]) -> tuple[Pictures, Pictures]:
    learn, held = (rename(part, renames) for part in training)
    return learn, held


def _warn_of_differences(records: Sequence[Mapping[str, Any]]) -> None:
    """Warn where a model was asked with other words than the first one: each as it was taught."""
    first: dict[str, tuple[str, Mapping[str, Any]]] = {}
    told = set()
    for record in records:
        data, model, words = record["dataset"], record["pretrained"], record["provenance"]["prompts"]
        if words is None:
            continue
        base, other = first.setdefault(data, (model, words))
        if words["hash"] != other["hash"] and (data, model) not in told:
            told.add((data, model))
            mine, theirs = (", ".join(_words(a, b)) for a, b in ((words, other), (other, words)))
            warnings.warn(
                f"on {data} {model} was asked with {mine}, and {base} with {theirs}, each as it was taught: "
                "--template and --rename ask all models alike",
                stacklevel=3,
            )


def _words(words: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The prompts and the first of the class names of a record that another lacks, quoted."""
    templates = [] if words["templates"] == other["templates"] else words["templates"]
    names = [name for name in words["classnames"] if name not in other["classnames"]]
    return [repr(text) for text in (*templates[:3], *names[:3])]
