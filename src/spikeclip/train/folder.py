"""The folder of a training: one process at a time trains in it, and only what a training wrote is ever removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spikeclip.errors import InputError
from spikeclip.files import check_free, check_target, lock_file
from spikeclip.records import read_record, write_record

RECIPE, CHECKPOINT, LOG, RESULT = "recipe.json", "checkpoint.pt", "metrics.jsonl", "results.json"
BOARDS = "tensorboard/*/events.out.tfevents.*"
LEFTOVERS = tuple(f".{name}.*tmp" for name in (RECIPE, CHECKPOINT, LOG, RESULT))
LEFTOVERS += ("model/.*.tmp", "model/graph/.*.tmp", "model/.saving-*/*")
"""What a kill may leave of files that were being written."""
RUN = (RECIPE, CHECKPOINT, LOG, RESULT, BOARDS, *LEFTOVERS)
RUN += (
    "model/*.json",
    "model/*.safetensors",
    "model/README.md",
    "model/graph/*.json",
    "model/graph/*.safetensors",
)
"""All that a run writes into its folder, and `lower` into its model."""
_LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path, kind: str, main: bool = True) -> Iterator[None]:
    """Keep `folder`, made where there is none, to this process; however it ends, even by a kill, the lock goes with it.

    kind: what the folder holds, for messages. main: False in all but the first process of one training, which share
    the folder. Raises `InputError` where another process has it, and for a file. Where the file system or the
    machine has no locks, it warns. A folder that is empty at the end, and was not before, is removed.
    """
    if not main:
        yield
        return
    check_free(folder, kind, folder.is_dir())
    empty = folder.is_dir() and not any(folder.iterdir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be made ({error.strerror}): choose another --out"
        ) from error
    lock = lock_file(folder / _LOCK, "trains", "wait for its end, stop it, or choose another --out")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / _LOCK).unlink()
        lock.close()
        with contextlib.suppress(OSError):  # it is not empty
            if not empty:
                folder.rmdir()


def check_start(
    folder: Path, kind: str, changed: Callable[[dict[str, Any]], list[str]], resume: bool, overwrite: bool
) -> None:
    """Check that a training may start in `folder`, or `resume` there; nothing is written or removed.

    changed(recipe): the settings that are others than in the recipe there. Raises `InputError` where there is nothing
    to resume or another recipe, where one that has begun is not to be overwritten, and for a folder of other things or
    with links in place of folders.
    """
    recipe = folder / RECIPE
    for name in ("model", "tensorboard"):
        check_target(folder / name)
    if resume:
        if not recipe.is_file():
            raise InputError(f"nothing to resume in {folder}: start without --resume")
        try:
            different = changed(read_record(recipe))
        except InputError as error:
            raise InputError(f"{error}: it is damaged; --overwrite starts anew") from error
        if different:
            raise InputError(
                f"{folder} was started with other settings (different: {', '.join(different)}): it goes on with "
                "the same ones; remove the folder to start anew"
            )
        return
    # A recipe alone, or with a log, is of a training that never came to a checkpoint: nothing of it is worth asking.
    begun = recipe.is_file() and any((folder / name).exists() for name in (CHECKPOINT, "model", RESULT))
    if begun and not overwrite:
        raise InputError(f"{folder} already holds a {kind}: --resume continues it, --overwrite replaces it")
    others = folder.is_dir() and any(entry.name != _LOCK for entry in folder.iterdir())
    if others and not (begun or _is_ours(recipe)):
        raise InputError(f"{folder} is not empty and not a {kind}: choose another --out")


def _is_ours(recipe: Path) -> bool:
    with contextlib.suppress(InputError):
        return "seed" in read_record(recipe)
    return False


def begin(folder: Path, recipe: Mapping[str, Any], resume: bool) -> None:
    """Remove an earlier training, or what a kill left of files of the one that is resumed, and note the recipe."""
    clear(folder, LEFTOVERS if resume else RUN)
    write_record(recipe, folder / RECIPE)


def clear(folder: Path, written: Iterable[str] = RUN) -> None:
    """Remove the files in `folder` that match the patterns, and folders that this leaves empty.

    What lies behind a symbolic link to another place stays.
    """
    root = folder.resolve()
    for pattern in written:
        for file in list(folder.glob(pattern)):
            inside = file.parent.resolve().is_relative_to(root)
            if not inside or (file.is_dir() and not file.is_symlink()):
                continue
            file.unlink()
            with contextlib.suppress(OSError):  # one that is not empty
                for above in file.relative_to(folder).parents[:-1]:
                    (folder / above).rmdir()


def foreign(folder: Path, written: Iterable[str]) -> list[str]:
    """Return the files below `folder`, as paths in it, that match none of the patterns; locks do not count."""
    ours = {file for pattern in written for file in folder.glob(pattern)}
    files = (file for file in sorted(folder.rglob("*")) if file.is_symlink() or not file.is_dir())
    return [str(file.relative_to(folder)) for file in files if file not in ours and file.name != _LOCK]
