"""Pictures of a split from the built-in set, a local folder or the Hugging Face hub, decoded once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikeclip.data import cache as store
from spikeclip.data.listing import (
    VALIDATION,
    Listing,
    list_folder,
    list_parquet,
    list_rows,
    parquet_splits,
    picture_splits,
)
from spikeclip.data.pictures import Pictures
from spikeclip.data.shapes import shapes
from spikeclip.errors import InputError, first_line, missing_extra, unknown

_FORMAT = 1  # part of every cache key: raise it when decoding or the files in the cache change


@dataclass(frozen=True)
class _Source:
    """A split that was found. identity: changes with its files. listing: reads it, given scratch space."""

    name: str
    split: str
    identity: str
    listing: Callable[[Path], Listing]


def load_pictures(
    source: str,
    split: str,
    image_size: int,
    cache: str | Path = "~/.cache/spikeclip",
    limit: int | None = None,
    classnames: dict[str, str] | None = None,
) -> Pictures:
    """Return a split as uint8 pictures of `image_size` pixels, decoded once, then memory-mapped from `cache`.

    source: "shapes" (built in); a folder with `{split}*.parquet`, with `{split}/{class}/*.jpg`, or with
    `{class}/*.jpg` (then "train"); or a data set's name on the Hugging Face hub. "val" and "validation" are
    one split. limit: this many pictures, drawn evenly from the classes, always the same ones. classnames:
    class names to replace, old name: new name.

    Pictures that cannot be read are left out, named in `skipped`, and warned about. Raises `InputError` for a
    source, split or class name that does not exist, and when no picture can be read.
    """
    if image_size < 1:
        raise InputError(f"image_size must be at least 1 pixel, got {image_size}")
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1 picture, got {limit}")
    if source == "shapes":
        pictures = shapes(split, image_size=image_size)
        if limit is not None and limit < len(pictures):
            pictures = pictures.subset(_draw(len(pictures), pictures.labels, limit))
    else:
        pictures = _cached(_find(source, split), image_size, Path(cache).expanduser(), limit)
    if pictures.skipped:
        first = ", ".join(pictures.skipped[:3]) + (", ..." if len(pictures.skipped) > 3 else "")
        count = len(pictures.skipped)
        warnings.warn(f"{source} {split}: {count} unreadable pictures left out: {first}", stacklevel=2)
    return _rename(pictures, classnames) if classnames else pictures


def _cached(source: _Source, image_size: int, cache: Path, limit: int | None) -> Pictures:
    key = [_FORMAT, source.name, source.identity, source.split, image_size, limit]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
    path = cache / "pictures" / f"{Path(source.name).name}-{source.split}-{image_size}-{digest}"
    pictures = store.read(path)
    if pictures is not None:
        return pictures
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=path.parent, prefix=".arrow-", ignore_cleanup_errors=True
        ) as scratch:
            listing = source.listing(Path(scratch))
            chosen = _draw(len(listing.ids), listing.labels, limit)
            store.write(path, source.name, source.split, listing, chosen, image_size)
    except OSError as error:
        raise InputError(f"cannot write decoded pictures to the cache {cache}: {error}") from error
    pictures = store.read(path)
    assert pictures is not None, f"{path} was written but cannot be read back"
    return pictures


def _find(source: str, split: str) -> _Source:
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _local(folder, split)
    if folder.exists():
        raise InputError(f"{source} is a file; a source is a folder, a hub name or 'shapes'")
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") > 1 or not source
    if looks_like_path:
        raise InputError(f"folder {source!r} does not exist")
    return _hub(source, split)


def _local(folder: Path, split: str) -> _Source:
    name = folder.resolve().name
    if parquet := parquet_splits(folder):
        found = _choose(str(folder), split, parquet)
        digest = hashlib.sha256()
        for path in [*parquet[found], folder / "names.json"]:
            if path.is_file():
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return _Source(
            name,
            found,
            digest.hexdigest(),
            lambda scratch: list_parquet(folder, parquet[found], found, scratch),
        )
    splits = picture_splits(folder)
    if not splits:
        raise InputError(
            f"{folder}: found neither {split}*.parquet nor pictures in {split}/class or class folders"
        )
    found = _choose(str(folder), split, splits)
    listing = list_folder(folder, splits, found)
    # Sizes and times stand for the contents: hashing a million files would cost as much as decoding them.
    stats = [(name, (folder / name).stat()) for name in listing.ids]
    files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    identity = hashlib.sha256(
        json.dumps([str(folder.resolve()), listing.classnames, files]).encode()
    ).hexdigest()
    return _Source(name, found, identity, lambda scratch: listing)


def _hub(source: str, split: str) -> _Source:
    try:
        import datasets
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
    except ImportError:
        raise missing_extra("datasets", "train") from None
    failure = f"{source!r} is neither a local folder nor 'shapes'"
    offline = False
    try:  # one quick question first: offline, `datasets` alone would retry for half a minute
        HfApi().dataset_info(source, timeout=10)
    except RepositoryNotFoundError:
        raise InputError(f"{failure}, and the Hugging Face hub has no data set of that name") from None
    except HfHubHTTPError as error:
        raise InputError(f"{failure}, and the Hugging Face hub refused it ({first_line(error)})") from error
    except Exception:  # no network, in whichever way; a copy that `datasets` downloaded earlier will do
        offline = True
    try:
        with _without_network() if offline else nullcontext():
            loaded = datasets.load_dataset(source)
    except Exception as error:  # connection, missing files, ambiguous configuration: each has its own family
        problem = "could not be reached" if offline else f"could not deliver it ({first_line(error)})"
        raise InputError(f"{failure}, and the Hugging Face hub {problem}") from error
    assert isinstance(loaded, datasets.DatasetDict)
    found = _choose(source, split, map(str, loaded))
    rows = loaded[found]
    return _Source(source, found, rows._fingerprint, lambda scratch: list_rows(rows, source, found))


@contextmanager
def _without_network() -> Iterator[None]:
    """Have the hub's client answer from its cache, as HF_HUB_OFFLINE=1 set before import would."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _choose(source: str, split: str, splits: Iterable[str]) -> str:
    found = list(splits)
    wanted = [split, *(VALIDATION if split in VALIDATION else ())]
    for name in wanted:
        if name in found:
            return name
    raise InputError(f"{source} has no split {split!r}; found: {', '.join(sorted(found))}")


def _draw(count: int, labels: np.ndarray | None, limit: int | None) -> np.ndarray:
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


def _rename(pictures: Pictures, names: dict[str, str]) -> Pictures:
    for old in names:
        if old not in pictures.classnames:
            raise unknown(f"class of {pictures.name}", old, pictures.classnames)
    digest = hashlib.sha256(json.dumps([pictures.fingerprint, sorted(names.items())]).encode()).hexdigest()
    renamed = [names.get(name, name) for name in pictures.classnames]
    return dataclasses.replace(pictures, classnames=renamed, fingerprint=digest)
