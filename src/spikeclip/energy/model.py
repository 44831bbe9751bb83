"""The energy of a saved model on a data set: from names to energy.json and a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from spikeclip.config import TWINS, read_config
from spikeclip.data.sources import load_pictures, rename
from spikeclip.data.tokenizer import Tokenizer, no_tokenizer
from spikeclip.defaults import CACHE
from spikeclip.energy.account import account, measured, merged, teacher_cost
from spikeclip.energy.conventions import load_conventions
from spikeclip.energy.report import write_report
from spikeclip.errors import InputError, unknown
from spikeclip.graph.saved import open_graphs
from spikeclip.pretrained.resolve import resolve
from spikeclip.records import check_replaced, read_record, write_record


@dataclass(frozen=True)
class EnergySettings:
    """Which model runs on which pictures, and what it is compared with."""

    model: str
    """Saved model, run or hub name, as `resolve` takes it."""
    data: str
    """Data set, as `load_pictures` takes it."""
    split: str = "test"
    """Split of it."""
    templates: Sequence[str] | None = None
    """Prompts of a class; {c} is its name. None for those that the model was taught with."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Class names to replace, old name: new name; without any, those that fit of what it was taught with."""
    limit: int | None = None
    """Use only this many pictures."""
    precision: Literal["fp32", "int8"] = "fp32"
    """Weights of the run."""
    conventions: Path | None = None
    """YAML file with constants to change."""
    twin: Path | None = None
    """Run of the ReLU twin, for its accuracy."""
    teacher: str | None = None
    """A CLIP or SigLIP to count and compare with."""
    measure: bool = False
    """Measure time and joules too (level 4)."""
    cache: str = CACHE
    """Folder of decoded pictures."""

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "int8"):
            raise unknown("precision", self.precision, ("fp32", "int8"))


def account_for(settings: EnergySettings, out: Path, into: Path | None = None) -> dict[str, Any]:
    """Account for a model; leave energy.json and report.html in the folder `out` and return what the former holds.

    into: a record of `evaluate_models`, or of a run, on the same pictures, which gets `energy` and `spikes`. Raises
    `InputError` for what does not exist or does not fit.
    """
    if out.is_file():
        raise InputError(f"{out} is a file; --out names a folder")
    found = resolve(settings.model)
    if not (found.folder / "tokenizer.json").is_file():
        raise no_tokenizer(settings.model)
    conventions = load_conventions(settings.conventions)
    record = _record(into) if into else None
    twin = _twin(settings.twin) if settings.twin else None
    graphs = open_graphs(found.folder)
    pictures = load_pictures(
        settings.data,
        settings.split,
        graphs.image.input.format,
        cache=settings.cache,
        limit=settings.limit,
    )
    source = Path(settings.data).expanduser().resolve().name
    check_replaced(
        out / "energy.json",
        f"{settings.model} on {source}",
        lambda result: f"{result['model']} on {Path(result['data']['source']).name}",
    )
    if twin and (twin["data"], twin["split"]) != (pictures.name, pictures.split):
        raise InputError(
            f"{twin['run']} was tested on {twin['data']} {twin['split']}, and this is {pictures.name} "
            f"{pictures.split}: leave out --twin"
        )
    renames = dict(settings.rename) or graphs.taught.renames_of(pictures.classnames)
    templates = settings.templates or graphs.taught.prompts
    graphs.taught.warn_of_other(templates, pictures.classnames, renames, settings.model)
    pictures = rename(pictures, renames)
    if settings.teacher:
        cost = teacher_cost(settings.teacher, pictures, templates)
        conventions = dataclasses.replace(conventions, teacher=cost)
    result = account(
        graphs,
        Tokenizer.load(found.folder),
        pictures,
        conventions,
        templates=templates,
        precision=settings.precision,
    )
    result |= {"model": settings.model, "twin": twin}
    if settings.measure:
        result["energy"]["measured"] = measured(graphs.image, pictures.images, settings.precision)
    write_record(result, out / "energy.json")
    log = (found.run or found.folder) / "metrics.jsonl"
    title = f"Energy of {settings.model}"
    write_report(result, out / "report.html", graphs.image, pictures.images[0], log, title)
    if record is not None and into is not None:
        write_record(merged(record, result), into)
    return result


def _twin(run: Path) -> dict[str, Any]:
    """Return run, data set, split, pictures and metrics of the twin's test."""
    result = read_record(run / "results.json")
    test = result.get("test")
    if not isinstance(test, Mapping):
        raise InputError(
            f"{run} was trained without a test, so there is no accuracy to compare with: leave out --twin"
            if "stages" in result
            else f"{run / 'results.json'} is no result of a training: --twin names the run of the ReLU twin"
        )
    neuron = read_config(run / "model").neuron.kind
    if neuron not in TWINS:
        raise InputError(f"{run} has spiking neurons ({neuron}): --twin names the run of the ReLU twin")
    data = test["provenance"]["data"]
    tested = {"data": data["source"], "split": data["split"], "pictures": data["pictures"]}
    return {"run": str(run), **tested, **test["metrics"]}


def _record(file: Path) -> dict[str, Any]:
    """Read the record that energy goes into."""
    record = read_record(file)
    if several := record.get("records"):
        raise InputError(
            f"{file} holds {len(several)} records: --into takes that of one model, one data set and one task"
        )
    if not isinstance((record.get("test") or record).get("provenance"), Mapping):
        raise InputError(
            f"{file} is no record of `spikeclip evaluate`, nor the result of a run that was tested: --into takes one"
        )
    return record
