"""Where a data set is found: known by name, in a local folder or on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spikeclip.data.known import Known, known_datasets
from spikeclip.data.readers.events import count_recordings, event_splits, list_events
from spikeclip.data.readers.folders import all_files, list_folder, picture_splits, unsorted
from spikeclip.data.readers.hub import hub_splits
from spikeclip.data.readers.listing import CLASSNAMES_FILE, VALIDATION, Listing
from spikeclip.data.readers.parquet import count_parquet, list_parquet, list_rows, parquet_splits
from spikeclip.data.readers.shards import list_shards, shard_splits
from spikeclip.errors import InputError


@dataclass(frozen=True)
class Split:
    """identity: changes when the files of the split do. listing: reads the split, given a folder for scratch files."""

    identity: str
    listing: Callable[[Path], Listing]


@dataclass(frozen=True)
class Source:
    """A data set that was found at `place`.

    splits: their names in the source. open: finds the files of a split. count: pictures of a split without decoding
    them, None where that would fetch it. known: its entry in datasets.yaml. events: whether it holds event recordings
    and no pictures.
    """

    name: str
    place: str
    splits: list[str]
    open: Callable[[str], Split]
    count: Callable[[str], int | None]
    known: Known | None = None
    events: bool = False

    def split(self, wanted: str) -> str:
        """Return the name of a split in the source; raises `InputError` where there is none."""
        found = self.find(wanted)
        if found is None:
            raise InputError(f"{self.place} has no split {wanted!r}; found: {', '.join(sorted(self.splits))}")
        return found

    def validation(self, *taken: str) -> str | None:
        """Return the validation split of the source; None where it has none, or where that is tested or trained on.

        taken: the splits of the run. The "test" of a known set is never used, whether the run reports it or not.
        """
        found = self.find("val")
        return None if found in map(self.find, [*taken, *(["test"] if self.known else [])]) else found

    def find(self, wanted: str) -> str | None:
        """Return the name of a split in the source, None where there is none."""
        known = self.known.splits if self.known else {}
        names = [known[wanted][0], wanted] if wanted in known else [wanted]
        aliases = [alias for name in names for alias in (name, *(VALIDATION if name in VALIDATION else ()))]
        return next((alias for alias in aliases if alias in self.splits), None)


def find_source(source: str) -> Source:
    """Find a data set: a known name (in $SPIKECLIP_DATA, else on the hub), a folder, or a name on the hub.

    A known name never means a folder of the working directory: a folder is written with a slash (./cifar10).
    Raises `InputError` for what does not exist or cannot be reached.
    """
    if known := known_datasets().get(source):
        return _local(known.folder, known) if known.folder else _hub(known.hub, known)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _local(folder)
    if folder.exists():
        raise InputError(f"{source} is a file; a source is a folder, a known data set or a name on the hub")
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") > 1 or not source
    if looks_like_path:
        raise InputError(f"folder {source!r} does not exist")
    return _hub(source)


def _local(folder: Path, known: Known | None = None) -> Source:
    name = known.name if known else folder.resolve().name
    tables = parquet_splits(folder)
    classes = {} if tables else picture_splits(folder)
    pictures = tables or {name: all_files(classes[name]) for name in classes} or shard_splits(folder)
    files = pictures or event_splits(folder)
    if not files:
        there = unsorted(folder)
        raise InputError(
            f"{folder}: found neither parquet files, pictures in split/class or class folders, shards (.tar), nor "
            f"event recordings (.npz){'; ' + there if there else ''}"
        )

    def open_split(split: str) -> Split:
        if classes:
            listing = list_folder(folder, classes, split)
            return Split(_stats(folder, files[split], listing.classnames), lambda _: listing)
        paths, names = files[split], folder / "names.json"
        kind = paths[0].suffix
        if kind == ".parquet":
            return Split(_contents([*paths, names]), partial(list_parquet, folder, paths, split))
        if kind == ".npz":
            return Split(_contents([*paths, names]), lambda _: list_events(folder, paths[0]))
        about = [folder / CLASSNAMES_FILE, names]
        return Split(_stats(folder, [*paths, *about], []), lambda _: list_shards(folder, paths))

    def count(split: str) -> int:
        if classes:
            return sum(len(each.pictures) for each in classes[split])
        paths = files[split]
        kind = paths[0].suffix
        if kind == ".parquet":
            return count_parquet(paths)
        if kind == ".npz":
            return count_recordings(paths[0])
        return len(list_shards(folder, paths).ids)

    return Source(name, str(folder), list(files), open_split, count, known, events=not pictures)


def _contents(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _stats(folder: Path, files: list[Path], classnames: list[str]) -> str:
    """Hash sizes and times in place of the contents: hashing a million files would cost as much as decoding them."""
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files if path.exists()]
    about = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(json.dumps([str(folder.resolve()), classnames, about]).encode()).hexdigest()


def _hub(name: str, known: Known | None = None) -> Source:
    rows = hub_splits(name, known)

    def open_split(split: str) -> Split:
        found = rows[split]()
        return Split(found._fingerprint, lambda _: list_rows(found, name, split))

    def count(split: str) -> int | None:
        return None if known and known.files else len(rows[split]())

    return Source(known.name if known else name, f"{name} on the hub", list(rows), open_split, count, known)
