"""Pictures of one or several sources as one training set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spikeclip.config import DataConfig, ImageFormat
from spikeclip.data.images import Images
from spikeclip.data.known import known_datasets
from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import load_prompts, text_key
from spikeclip.data.sources import Splits, load_pictures, load_training, rename_classes
from spikeclip.errors import InputError, unknown
from spikeclip.records import read_json


def load_sources(
    data: DataConfig, split: str, format: ImageFormat, limit: int | None = None
) -> list[Pictures]:
    """Load a split of every source of a run, classes renamed; raises `InputError` as `load_pictures` does."""
    cache = Path(data.cache).expanduser()
    parts = [load_pictures(source, split, format, cache=cache, limit=limit) for source in source_names(data)]
    return rename_classes(parts, data.classnames)


def split_sources(data: DataConfig, format: ImageFormat, seed: int) -> tuple[list[Pictures], list[Pictures]]:
    """Return the training and the validation part of every source, as `load_training` does of one.

    Neither has a picture of a class of `data.withhold`. Of several sources some may have no validation part, as of
    classes of one picture each. Raises `InputError` for a class that no source has, where all pictures have one label
    and no captions, and where none is left for validation.
    """
    cache = Path(data.cache).expanduser()
    alone = len(source_names(data)) == 1
    splits = Splits(data.val_fraction, seed, data.train_split, data.test_split, "data.val_fraction", alone)
    parts = [
        load_training(source, format, splits, cache=cache, limit=data.limit) for source in source_names(data)
    ]
    if not any(len(val) for _, val in parts):
        raise InputError("no source leaves a picture for validation: raise data.val_fraction")
    trains, vals = (rename_classes(part, data.classnames) for part in zip(*parts, strict=True))
    names = {text_key(name) for part in trains for name in part.classnames}
    if len(names) == 1 and all(part.labels is not None and part.captions is None for part in trains):
        name = trains[0].classnames[0]
        raise InputError(f"{trains[0].name}: every label is {name!r}; one class is no classification")
    return _without(data, trains), _without(data, vals)


def _without(data: DataConfig, parts: list[Pictures]) -> list[Pictures]:
    """Leave out the pictures of withheld classes. Class names and labels stay as they are."""
    withheld = {text_key(name): name for name in data.withhold}
    known = {text_key(name): name for part in parts for name in part.classnames}
    for key, name in withheld.items():
        if key not in known:
            raise unknown(
                f"withheld class of {' and '.join(part.name for part in parts)}", name, known.values()
            )
    kept = []
    for part in parts:
        classes = [label for label, name in enumerate(part.classnames) if text_key(name) in withheld]
        everything = np.arange(len(part))
        rows = everything if part.labels is None else everything[~np.isin(part.labels, classes)]
        if len(part) and not len(rows):
            raise InputError(f"data.withhold leaves no pictures of {part.name} {part.split}")
        kept.append(part.subset(rows) if len(rows) < len(part) else part)
    return kept


def join(parts: Sequence[Pictures]) -> Pictures:
    """Return the pictures of several sources as one set, in their order.

    Classes of equal name (but for upper case, and "_" for a space) are one class, named as in the first source
    that has it. Captions are kept where every source has them. Raises `InputError` where some sources have
    labels and others captions only.
    """
    if len(parts) == 1:
        return parts[0]
    labelled = [part.labels is not None for part in parts]
    captions = [part.captions for part in parts]
    if any(labelled) and not all(labelled) and None in captions:
        raise InputError(
            "sources of one run need labels all or captions all: "
            + ", ".join(f"{p.name} has {'labels' if p.labels is not None else 'captions'}" for p in parts)
        )
    classnames: dict[str, str] = {}
    for part in parts:
        for name in part.classnames:
            classnames.setdefault(text_key(name), name)
    place = {key: i for i, key in enumerate(classnames)}
    labels = None
    if all(labelled):
        maps = [np.array([place[text_key(name)] for name in part.classnames], np.int64) for part in parts]
        labels = np.concatenate([m[part.labels] for m, part in zip(maps, parts, strict=True)])
    return Pictures(
        name="+".join(part.name for part in parts),
        split=parts[0].split,
        images=Images.join([part.images for part in parts]),
        ids=[f"{part.name}/{key}" for part in parts for key in part.ids],
        fingerprint=hashlib.sha256("".join(part.fingerprint for part in parts).encode()).hexdigest(),
        labels=labels,
        classnames=list(classnames.values()) if all(labelled) else [],
        captions=None if None in captions else [texts for group in captions for texts in group or []],
        skipped={f"{part.name}/{key}": why for part in parts for key, why in part.skipped.items()},
        others={f"{part.name}/{key}": why for part in parts for key, why in part.others.items()},
    )


def class_keys(data: DataConfig, parts: Sequence[Pictures]) -> dict[str, list[str]]:
    """Return the keys that a table of embeddings may have for each class, most certain first: WordNet ids, the name.

    A data set known by name has them among its prompts; a folder whose class names are words has them in
    classes.json, [{"wnid": ...}, ...] in label order. Keys of the result are `text_key` of the names.
    """
    keys: dict[str, list[str]] = {}
    for source, part in zip(source_names(data), parts, strict=True):
        for name, ids in zip(part.classnames, _wordnet_ids(source, len(part.classnames)), strict=True):
            keys[text_key(name)] = [*ids, *keys.get(text_key(name), [name])]
    return keys


def _wordnet_ids(source: str, classes: int) -> list[list[str]]:
    """Return a list with the id of each class of a source, an empty list for a class without one."""
    known = known_datasets().get(source)
    if known is not None:
        ids = load_prompts(source).ids if classes and known.names == "ours" else []
        return [[key] for key in ids] or [[]] * classes
    about = read_json(Path(source).expanduser() / "classes.json", default=[{}] * classes)
    if len(about) != classes:
        raise InputError(f"{source}/classes.json has {len(about)} classes, names.json {classes}")
    return [[entry["wnid"]] if isinstance(entry, dict) and "wnid" in entry else [] for entry in about]


def source_names(data: DataConfig) -> list[str]:
    return [data.source] if isinstance(data.source, str) else data.source
