"""Pictures of a split from the built-in set, a known data set, a local folder or the hub, decoded once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikeclip.config import ImageFormat
from spikeclip.data import cache as store
from spikeclip.data.images import Images
from spikeclip.data.locate import Source, find_source
from spikeclip.data.pictures import Pictures, validation_split
from spikeclip.data.prompts import text_key, with_classnames
from spikeclip.data.readers.listing import listed
from spikeclip.data.shapes import shapes
from spikeclip.defaults import CACHE
from spikeclip.errors import InputError, printable, unknown

_VERSION = 3  # part of every cache key: raise it when decoding or the files in the cache change


@dataclass(frozen=True)
class Splits:
    """Which pictures of a source are for training and which for validation; see `load_training`."""

    val_fraction: float
    """Share of the training pictures that validates where the source has no validation split of its own."""
    seed: int = 0
    """Draws that share."""
    train: str = "train"
    """Split to train on."""
    test: str | None = "test"
    """Split that is reported at the end, and so is not for validation; None for none."""
    set_by: str = ""
    """The setting that is raised where the share is too small, for the message; empty where there is none."""
    needed: bool = True
    """Whether a source that leaves no picture for validation is refused; else all of it is for training."""


def load_pictures(
    source: str,
    split: str,
    format: ImageFormat,
    *,
    cache: str | Path = CACHE,
    limit: int | None = None,
    classnames: dict[str, str] | None = None,
) -> Pictures:
    """Return a split as uint8 pictures of `format.image_size` pixels, decoded once, then memory-mapped from `cache`.

    source: "shapes" (built in); a name of `known_datasets`, read from $SPIKECLIP_DATA/name where that is a folder
    and else from the hub, with the class names of its prompts; a folder with `{split}*.parquet`, with webdataset
    shards `{split}/*.tar`, with `{split}/{class}/*.jpg` or with `{class}/*.jpg` (then "train"); or a data set's
    name on the Hugging Face hub. "val" and "validation" are one split. limit: this many pictures, drawn evenly
    from the classes, always the same ones. classnames: class names to replace, old name: new name. Each recording of
    a folder with `{split}.npz` (see `events.list_events`) is summed into `format.event_frames` frames of
    `format.image_size` pixels around its centre; for pictures `format.event_frames` is None.

    Pictures that cannot be read are left out, named in `skipped`, and warned about. Raises `InputError` for a
    source, split or class name that does not exist, for pictures where recordings are wanted and the reverse, for
    class names of a known set in another order, and when no picture can be read.
    """
    if format.image_size < 1:
        raise InputError(f"image_size must be at least 1 pixel, got {format.image_size}")
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1 picture, got {limit}")
    found = None if source == "shapes" else find_source(source)
    if found is not None and found.events and format.event_frames is None:
        raise InputError(
            f"{source} holds event recordings: only a model with image.event_frames reads them, not one of pictures"
        )
    if format.event_frames is not None and not (found and found.events):
        raise InputError(
            f"{source} holds pictures, but a model with image.event_frames reads event recordings"
        )
    if found is None:
        pictures = shapes(split, image_size=format.image_size)
        if limit is not None and limit < len(pictures):
            pictures = pictures.subset(draw(len(pictures), pictures.labels, limit))
            # A copy, so that the pictures that are not wanted leave the memory.
            pictures = dataclasses.replace(pictures, images=Images([np.asarray(pictures.images)]))
    else:
        pictures = _cached(found, found.split(split), format, Path(cache).expanduser(), limit)
        if found.known and pictures.labels is not None and found.known.names == "ours":
            pictures = with_classnames(pictures, found.known.name)
    _warn_of_unread(
        pictures, f"{source} {split}", f"`spikeclip data show {shlex.quote(source)} --split {split}`"
    )
    mute = [key for key, texts in zip(pictures.ids, pictures.captions or [], strict=False) if not texts]
    if mute:
        warnings.warn(
            f"{source} {split}: {len(mute)} of {len(pictures)} pictures have no caption: {listed(mute)}",
            stacklevel=2,
        )
    return rename(pictures, classnames or {})


def _warn_of_unread(pictures: Pictures, where: str, shown_by: str) -> None:
    unread = {
        "pictures cannot be read and are left out": pictures.skipped,
        "files or folders are no pictures and are passed over": pictures.others,
    }
    for what, reasons in unread.items():
        if reasons:
            first = listed([f"{printable(name)} ({why})" for name, why in reasons.items()])
            more = f"; {shown_by} lists all" if len(reasons) > 3 else ""
            # From one place, so that it is said once.
            warnings.warn(f"{where}: {len(reasons):,} {what}: {first}{more}", stacklevel=1)


def load_training(
    source: str,
    format: ImageFormat,
    splits: Splits,
    *,
    cache: str | Path = CACHE,
    limit: int | None = None,
    classnames: dict[str, str] | None = None,
) -> tuple[Pictures, Pictures]:
    """Return (train, validation) of a source, as `load_pictures` does.

    Validation is the source's own validation split where it has one that is neither `splits.train` nor
    `splits.test`, less the classes that training lacks; else `splits.val_fraction` of the training pictures, drawn by
    `splits.seed`. limit: of the training split. Raises `InputError` where no picture is left for validation, if one is
    needed.
    """
    taken = [splits.train, *([splits.test] if splits.test else [])]
    name = None if source == "shapes" else find_source(source).validation(*taken)
    train = load_pictures(source, splits.train, format, cache=cache, limit=limit, classnames=classnames)
    if name is None:
        train, val = validation_split(train, splits.val_fraction, splits.seed)
    else:
        val = load_pictures(source, name, format, cache=cache, classnames=classnames)
        if val.classnames != train.classnames:
            raise InputError(
                f"{source}: {splits.train!r} and {name!r} do not have the same classes in one order"
            )
        if val.labels is not None and train.labels is not None:
            warn_of_new_classes(val, [train.classnames[i] for i in np.unique(train.labels)])
            shared = np.isin(val.labels, train.labels)
            val = val if shared.all() else val.subset(np.flatnonzero(shared))
    if splits.needed and not len(val):
        if name is not None:
            needed = f"pictures of the same classes in {splits.train!r} and {name!r}"
        else:
            needed = f"more pictures{f', or a larger {splits.set_by}' if splits.set_by else ''}"
            needed += f" (a limit of {limit} was set)" if limit is not None else ""
        raise InputError(
            f"{source}: {len(train)} pictures of {splits.train!r} leave none for validation: this needs {needed}"
        )
    return train, val


def warn_of_new_classes(pictures: Pictures, trained: Collection[str]) -> None:
    """Warn of classes that pictures show and that are not among those of the training, compared by `text_key`."""
    if pictures.labels is None:
        return
    keys = {text_key(name) for name in trained}
    counts = np.bincount(pictures.labels, minlength=len(pictures.classnames)).tolist()
    new = [
        name
        for name, count in zip(pictures.classnames, counts, strict=True)
        if count and text_key(name) not in keys
    ]
    if new:
        warnings.warn(
            f"{pictures.name} {pictures.split}: training has no pictures of {len(new)} of its classes: {listed(new)}",
            stacklevel=2,
        )


def _cached(source: Source, split: str, format: ImageFormat, cache: Path, limit: int | None) -> Pictures:
    found = source.open(split)
    key = [_VERSION, source.name, found.identity, split, format.image_size, limit]
    if format.event_frames is not None:
        key.append(format.event_frames)
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
    path = cache / "pictures" / f"{Path(source.name).name}-{split}-{format.image_size}-{digest}"
    pictures = store.read(path)
    if pictures is not None:
        return pictures
    listing = found.listing()
    chosen = draw(len(listing.ids), listing.labels, limit)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store.write(path, source.name, split, listing, chosen, format)
    except OSError as error:
        raise InputError(f"cannot write decoded pictures to the cache {cache}: {error}") from error
    pictures = store.read(path)
    assert pictures is not None, f"{path} was written but cannot be read back"
    return pictures


def draw(count: int, labels: np.ndarray | None, limit: int | None) -> np.ndarray:
    """Return the indices, ascending, of `limit` pictures drawn in turn from each shuffled class."""
    if limit is None or limit >= count:
        return np.arange(count)
    shuffled = np.random.default_rng(0).permutation(count)
    if labels is None:
        return np.sort(shuffled[:limit])
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    sizes = np.unique(labels, return_counts=True)[1]
    turn = np.empty(count, np.int64)
    turn[by_class] = np.concatenate([np.arange(size) for size in sizes])
    return np.sort(shuffled[np.argsort(turn[shuffled], kind="stable")][:limit])


def rename(pictures: Pictures, names: dict[str, str]) -> Pictures:
    """Return the pictures with other class names, old name: new name; raises `InputError` for an unknown one."""
    if not names:
        return pictures
    for old in names:
        if old not in pictures.classnames:
            raise unknown(f"class of {pictures.name}", old, pictures.classnames)
    digest = hashlib.sha256(json.dumps([pictures.fingerprint, sorted(names.items())]).encode()).hexdigest()
    renamed = [names.get(name, name) for name in pictures.classnames]
    return dataclasses.replace(pictures, classnames=renamed, fingerprint=digest)


def rename_classes(parts: Sequence[Pictures], names: Mapping[str, str]) -> list[Pictures]:
    """Return several sources with other class names, old name: new name.

    Raises `InputError` for an old name that none of them has, and for a new one that another class of a source has.
    """
    known = {name for part in parts for name in part.classnames}
    for old in names:
        if old not in known:
            raise unknown(f"class of {' and '.join(part.name for part in parts)}", old, known)
    present = [{old: new for old, new in names.items() if old in part.classnames} for part in parts]
    renamed = [rename(part, found) for part, found in zip(parts, present, strict=True)]
    for part, found in zip(renamed, present, strict=True):
        for old, new in found.items():
            if sum(text_key(name) == text_key(new) for name in part.classnames) > 1:
                raise InputError(
                    f"{old!r} as {new!r}: {part.name} has another class of that name: choose another name"
                )
    return renamed
