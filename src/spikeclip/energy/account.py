"""The whole account of a model on a set of pictures: accuracy, firing, and energy, from one pass over both towers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from spikeclip.config import to_dict
from spikeclip.data.images import Images
from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import build_prompts
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.defaults import TEMPLATE
from spikeclip.encode.vectors import class_means
from spikeclip.energy.compare import baselines, mean_rate, total_energy, tower_energy
from spikeclip.energy.conventions import Conventions, TeacherCost
from spikeclip.energy.firing import (
    Firing,
    Group,
    all_firing,
    measure_firing,
    spiking_run,
    text_batches,
)
from spikeclip.energy.ledger import LEVELS
from spikeclip.energy.measure import measure
from spikeclip.errors import InputError
from spikeclip.graph.inputs import picture_batches
from spikeclip.graph.ops import Graph, Image
from spikeclip.graph.saved import SavedGraphs

DROPPED_IN_RECORDS = ("ledger", "layers")
"""Parts of a tower's energy that are too long for an evaluation record."""


def account(
    graphs: SavedGraphs,
    tokenizer: Tokenizer,
    pictures: Pictures,
    conventions: Conventions,
    *,
    templates: Sequence[str] = (TEMPLATE,),
    precision: Literal["fp32", "int8"] = "fp32",
    batch_size: int = 64,
) -> dict[str, Any]:
    """Run a model on all pictures and on the prompts of their classes, and return what it did and cost.

    precision: of the run, and so of the accuracy and the rates; the ledger has both kinds of weights either way. The
    result holds `metrics` (acc1, a fraction, where there are labels), `spikes` (see `firing_record`), `energy` with
    `image`, `text` (see `compare.tower_energy`), `total` (`compare.total_energy`) and the conventions, and the `data`.
    Raises `InputError` for pictures without class names, and for a network that does not spike.
    """
    prompts = _prompts(pictures, templates)
    tokens_NL = tokenizer.encode([text for texts in prompts for text in texts], graphs.text.input.length)
    batches = list(text_batches(graphs.text, tokens_NL, batch_size))
    rows_ND, text_groups = measure_firing(spiking_run(graphs.text, precision), (ids for ids, _ in batches))
    texts_ND = np.empty_like(rows_ND)
    texts_ND[np.concatenate([places for _, places in batches])] = rows_ND
    classes_KD = class_means(texts_ND, len(prompts))
    images_ND, image_groups = measure_firing(
        spiking_run(graphs.image, precision), picture_batches(graphs.image, pictures.images, batch_size)
    )
    metrics = {}
    if pictures.labels is not None:
        metrics["acc1"] = float(((images_ND @ classes_KD.T).argmax(1) == pictures.labels).mean())
    image = tower_energy(graphs.image, image_groups, conventions)
    # The text tower may have no neuron, so its twins are those of the image tower.
    text = tower_energy(graphs.text, text_groups, conventions, baselines(graphs.image))
    values = to_dict(conventions)
    return {
        "metrics": metrics,
        "spikes": firing_record(image_groups, text_groups),
        "energy": {
            "convention": conventions.name,
            "conventions": values,
            "hash": hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest(),
            "levels": list(LEVELS),
            "image": image,
            "text": text,
            "total": total_energy(image, text, conventions, len(pictures)),
        },
        "data": {
            "source": pictures.name,
            "split": pictures.split,
            "pictures": len(pictures),
            "texts": len(tokens_NL),
            "fingerprint": pictures.fingerprint,
        },
        "precision": precision,
    }


def teacher_cost(source: str, pictures: Pictures, templates: Sequence[str], name: str = "") -> TeacherCost:
    """Count a teacher's network (with PyTorch) for a convention's `teacher`: a picture and the mean class prompt.

    source: a CLIP or SigLIP, see `open_teacher`; name: what to call it. Of the templates the first counts.
    Raises `InputError` for a teacher of texts alone, for a network of ours and for pictures without class names.
    """
    from spikeclip.teacher import open_teacher

    prompts, teacher = _prompts(pictures, templates[:1]), open_teacher(source)
    if teacher.provenance["config"] is not None:
        raise InputError(
            f"{name or source} is a network of spikeclip: --twin accounts for its energy beside the model's"
        )
    from spikeclip.teacher.macs import count_macs

    return TeacherCost(
        name or source, *count_macs(teacher, pictures.images[0], [text for (text,) in prompts])
    )


def firing_record(image_groups: list[Group], text_groups: list[Group]) -> dict[str, Any]:
    """Return the firing of both towers in the form of an evaluation record's `spikes`.

    `mean_rate` and `mean_density` of the image tower and `text_mean_rate`; by layer, `image.NAME` or `text.NAME`:
    `rates`, `densities`, `rates_by_step` and `intervals_by_step`, half of each rate's 95 % confidence interval.
    """
    image, text = all_firing(image_groups), all_firing(text_groups)
    layers = {f"image.{name}": f for name, f in image.items()} | {
        f"text.{name}": f for name, f in text.items()
    }
    active = sum(float(f.active_T.sum()) for f in image.values())
    return {
        "mean_rate": mean_rate(image),
        "mean_density": active / sum(f.neurons * len(f.active_T) for f in image.values()),
        "text_mean_rate": mean_rate(text),
        "rates": {name: f.rate for name, f in layers.items()},
        "densities": {name: f.density for name, f in layers.items()},
        "rates_by_step": {name: _list(f, "rate_T") for name, f in layers.items()},
        "intervals_by_step": {name: _list(f, "interval_T") for name, f in layers.items()},
    }


def measured(
    graph: Graph[Image], images_NHWC: np.ndarray | Images, precision: Literal["fp32", "int8"]
) -> dict[str, Any]:
    """Return level 4 of an image tower: the engine, each layer as is fastest here, batches of 16 (see `measure`)."""
    from spikeclip.engine import Engine

    engine = Engine(graph, precision=precision)
    batch = next(picture_batches(graph, images_NHWC, 16))
    what = f"image tower, engine {precision}, batches of {len(batch)}, {engine.threads} threads"
    return {"what": what, **measure(lambda: engine(batch), len(batch))}


def merged(record: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return an evaluation record with `energy` and `spikes` of an account and the name of its convention.

    record: of `spikeclip evaluate`, or of a run, whose `test` it then goes into. Raises `InputError` where it is of
    other pictures.
    """
    if record.get("test"):
        return {**record, "test": merged(record["test"], found)}
    recorded, accounted = (record.get("provenance") or {}).get("data") or {}, found["data"]
    if recorded.get("fingerprint") != accounted["fingerprint"]:
        raise InputError(
            f"the record is of {recorded.get('source')} {recorded.get('split')}, {recorded.get('pictures')} pictures, "
            f"the energy of {accounted['source']} {accounted['split']}, {accounted['pictures']}: "
            "they do not belong together"
        )
    energy = dict(found["energy"])
    for tower in ("image", "text"):
        energy[tower] = {k: v for k, v in energy[tower].items() if k not in DROPPED_IN_RECORDS}
    provenance = {**record["provenance"], "energy_convention": energy["convention"]}
    return {**record, "energy": energy, "spikes": found["spikes"], "provenance": provenance}


def _prompts(pictures: Pictures, templates: Sequence[str]) -> list[list[str]]:
    if not pictures.classnames:
        raise InputError(
            f"{pictures.name} {pictures.split} names no classes, so there is no text to account for"
        )
    return build_prompts(pictures.classnames, templates)


def _list(firing: Firing, what: str) -> list[float]:
    return [float(x) for x in getattr(firing, what)]
