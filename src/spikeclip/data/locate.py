"""Where a data set is found: known by name, in a local folder or on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spikeclip.data.known import Known, known_datasets
from spikeclip.data.readers.events import count_recordings, event_splits, list_events
from spikeclip.data.readers.folders import all_files, list_folder, picture_splits, unsorted
from spikeclip.data.readers.hub import hub_rows, hub_splits
from spikeclip.data.readers.listing import CLASSNAMES_FILE, VALIDATION, Listing, check_shards
from spikeclip.data.readers.parquet import count_parquet, list_parquet, parquet_splits
from spikeclip.data.readers.rows import list_rows
from spikeclip.data.readers.shards import list_shards, shard_splits
from spikeclip.errors import InputError, nearest
from spikeclip.files import folders_beside
from spikeclip.hub import is_hub_name


class NoSplit(InputError):
    """A split `wanted` that a source lacks; it has those that were `found`."""

    def __init__(self, place: str, wanted: str, found: Sequence[str]) -> None:
        super().__init__(f"{place} has no split {wanted!r}; found: {', '.join(found)}")
        self.wanted, self.found = wanted, found


@dataclass(frozen=True)
class Split:
    """identity: changes when the files of the split do. listing: reads what the split holds."""

    identity: str
    listing: Callable[[], Listing]


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
            raise NoSplit(self.place, wanted, sorted(self.splits))
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
    if not is_hub_name(source):
        raise _missing(source, folder)
    return _hub(source)


def _missing(source: str, folder: Path) -> InputError:
    """What is wrong with a source that is no folder, no known name, and no name of the hub, owner/name."""
    near = nearest(str(folder), [*known_datasets(), "shapes", *folders_beside(folder)])
    hint = f"; did you mean {near!r}?" if near else ""
    if "/" in source:
        return InputError(f"folder {source!r} does not exist{hint}")
    if not near:
        hint = "; `spikeclip data list` lists those, and a data set of the Hugging Face hub is written owner/name"
    return InputError(f"{source!r} is neither a folder nor a known data set{hint}")


def _local(folder: Path, known: Known | None = None) -> Source:
    name, names = known.name if known else folder.resolve().name, folder / "names.json"
    source = partial(Source, name, str(folder), known=known)
    if tables := parquet_splits(folder):

        def open_table(split: str) -> Split:
            check_shards(tables[split])
            return Split(
                _contents([*tables[split], names]), partial(list_parquet, folder, tables[split], split)
            )

        return source(list(tables), open_table, lambda split: count_parquet(tables[split]))
    if classes := picture_splits(folder):

        def open_folders(split: str) -> Split:
            listing = list_folder(folder, classes, split)
            return Split(_stats(folder, all_files(classes[split]), listing.classnames), lambda: listing)

        return source(
            list(classes), open_folders, lambda split: sum(len(each.pictures) for each in classes[split])
        )
    if shards := shard_splits(folder):

        def open_shards(split: str) -> Split:
            check_shards(shards[split])
            files = [*shards[split], folder / CLASSNAMES_FILE, names]
            return Split(_stats(folder, files, []), partial(list_shards, folder, shards[split]))

        return source(list(shards), open_shards, lambda split: len(list_shards(folder, shards[split]).ids))
    if events := event_splits(folder):

        def open_events(split: str) -> Split:
            return Split(_contents([*events[split], names]), partial(list_events, folder, events[split][0]))

        return source(
            list(events), open_events, lambda split: count_recordings(events[split][0]), events=True
        )
    there = unsorted(folder)
    raise InputError(
        f"{folder}: found neither parquet files, pictures in split/class or class folders, shards (.tar), nor "
        f"event recordings (.npz){'; ' + there if there else ''}"
    )


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
        rows_of, folders = hub_rows(found)
        return Split(found._fingerprint, lambda: list_rows(rows_of, name, split, folders))

    def count(split: str) -> int | None:
        return None if known and known.files else len(rows[split]())

    return Source(known.name if known else name, f"{name} on the hub", list(rows), open_split, count, known)
