"""Where a data set lies: known by name, in a local folder or on the Hugging Face hub."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spikeclip.data.known import FOLDER_VARIABLE, Known, known_datasets
from spikeclip.data.readers.events import count_recordings, event_splits, list_events
from spikeclip.data.readers.folders import list_folder, picture_splits
from spikeclip.data.readers.listing import CLASSNAMES_FILE, VALIDATION, Listing
from spikeclip.data.readers.parquet import count_parquet, list_parquet, list_rows, parquet_splits
from spikeclip.data.readers.shards import list_shards, shard_splits
from spikeclip.errors import InputError, first_line, missing_extra


@dataclass(frozen=True)
class Split:
    """identity: changes with the split's files. listing: reads it, given scratch space."""

    identity: str
    listing: Callable[[Path], Listing]


@dataclass(frozen=True)
class Source:
    """A data set that was found at `place`. splits: names, as they are there. known: what is known of it.

    count: pictures of a split without decoding them, None where that would fetch it. events: whether it holds event
    recordings and no pictures.
    """

    name: str
    place: str
    splits: list[str]
    open: Callable[[str], Split]
    count: Callable[[str], int | None]
    known: Known | None = None
    events: bool = False

    def split(self, wanted: str) -> str:
        """Return the name that a split has there; raises `InputError` where there is none."""
        found = self.find(wanted)
        if found is None:
            raise InputError(f"{self.place} has no split {wanted!r}; found: {', '.join(sorted(self.splits))}")
        return found

    def validation(self, *taken: str) -> str | None:
        """Return the source's own validation split; None where it has none, or where that is tested or trained on.

        taken: the splits of the run. A known set's "test" is never used, whether the run reports it or not.
        """
        found = self.find("val")
        return None if found in map(self.find, [*taken, *(["test"] if self.known else [])]) else found

    def find(self, wanted: str) -> str | None:
        """Return the name that a split has there, None where there is none."""
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
    pictures = parquet_splits(folder) or picture_splits(folder) or shard_splits(folder)
    files = pictures or event_splits(folder)
    if not files:
        raise InputError(
            f"{folder}: found neither parquet files, pictures in split/class or class folders, shards (.tar), nor "
            "event recordings (.npz)"
        )

    def open_split(split: str) -> Split:
        own = files[split]
        kind = own[0].suffix
        if kind == ".parquet":
            return Split(_contents([*own, folder / "names.json"]), partial(list_parquet, folder, own, split))
        if kind == ".npz":
            return Split(_contents([*own, folder / "names.json"]), lambda _: list_events(folder, own[0]))
        if kind == ".tar":
            about = [folder / CLASSNAMES_FILE, folder / "names.json"]
            return Split(_stats(folder, [*own, *about], []), lambda _: list_shards(folder, own))
        listing = list_folder(folder, files, split)
        return Split(_stats(folder, own, listing.classnames), lambda _: listing)

    def count(split: str) -> int:
        own = files[split]
        kind = own[0].suffix
        if kind == ".parquet":
            return count_parquet(own)
        if kind == ".npz":
            return count_recordings(own[0])
        return len(list_shards(folder, own).ids) if kind == ".tar" else len(own)

    return Source(name, str(folder), list(files), open_split, count, known, events=not pictures)


def _contents(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _stats(folder: Path, files: list[Path], classnames: list[str]) -> str:
    """Sizes and times stand for the contents: hashing a million files would cost as much as decoding them."""
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files if path.exists()]
    about = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(json.dumps([str(folder.resolve()), classnames, about]).encode()).hexdigest()


def _hub(name: str, known: Known | None = None) -> Source:
    try:
        import datasets
    except ImportError:
        raise missing_extra("datasets", "train") from None
    offline = not _answers(name, known)

    def load(**options: Any) -> Any:
        try:
            with _without_network() if offline else nullcontext():
                return datasets.load_dataset(name, **options)
        except Exception as error:  # missing files, ambiguous configuration, ...: each has its own family
            problem = f"could not deliver it ({first_line(error)})"
            if offline:
                problem = f"could not be reached: {_instead(known)}"
            raise InputError(f"{_what(name, known)}, which {problem}") from error

    if known is not None and known.files is not None:
        # All splits share one verification of sizes, so it is off where only one is fetched.
        files = {theirs: known.files.format(split=theirs) for theirs, _ in known.splits.values()}
        rows = {
            split: partial(load, data_files={split: pattern}, split=split, verification_mode="no_checks")
            for split, pattern in files.items()
        }
    else:
        whole = load()
        rows = {str(split): partial(whole.__getitem__, split) for split in whole}

    def open_split(split: str) -> Split:
        found = rows[split]()
        return Split(found._fingerprint, lambda _: list_rows(found, name, split))

    def count(split: str) -> int | None:
        return None if known and known.files else len(rows[split]())

    return Source(known.name if known else name, f"{name} on the hub", list(rows), open_split, count, known)


def _answers(name: str, known: Known | None) -> bool:
    """One quick question to the hub: False offline, where `datasets` alone would retry for half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi().dataset_info(name, timeout=10)
    except RepositoryNotFoundError:
        raise InputError(f"{_what(name, known)}, which has no data set of that name") from None
    except HfHubHTTPError as error:
        raise InputError(f"{_what(name, known)}, which refused it ({first_line(error)})") from error
    except Exception:  # no network, in whichever way; a copy that `datasets` downloaded earlier will do
        return False
    return True


def _what(name: str, known: Known | None) -> str:
    if known is not None:
        return f"{known.name} is {name!r} on the Hugging Face hub"
    near = difflib.get_close_matches(name, known_datasets(), n=1, cutoff=0.6)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{name!r} is neither a folder nor a known data set{hint}, so it is looked for on the Hugging Face hub"


def _instead(known: Known | None) -> str:
    if known is None:
        return "give a folder instead, or a name from `spikeclip data list`"
    return f"fetch it once with a connection, or let {FOLDER_VARIABLE} name a folder that holds it as {known.name}/"


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
