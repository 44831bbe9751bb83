"""What spikeclip keeps on disk so that it need not be computed again: how much there is, and how to be rid of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from spikeclip.defaults import CACHE
from spikeclip.errors import unknown

KINDS = {
    "pictures": "decoded pictures",
    "embeddings": "embeddings of teachers",
    "engine": "which layers the engine runs dense",
}
"""Folders of the cache, and what is in each; every one is computed again when it is missing."""
_ENDINGS = (".npy", ".json", ".partial", ".lock", ".new", ".tmp")


class Kept(NamedTuple):
    kind: str
    files: int
    bytes: int
    used: datetime | None
    """When something was last read or written, None where there is nothing."""


def kept(kinds: Sequence[str] = tuple(KINDS), cache: str | Path = CACHE) -> list[Kept]:
    """Return what is kept of these kinds; raises `InputError` for a kind that does not exist."""
    _check(kinds)
    found = []
    for kind in kinds:
        facts = [file.stat() for file in _files(cache, kind)]
        used = max((max(fact.st_atime, fact.st_mtime) for fact in facts), default=None)
        size = sum(fact.st_blocks * 512 for fact in facts)
        found.append(Kept(kind, len(facts), size, None if used is None else datetime.fromtimestamp(used)))
    return found


def clear_cache(kinds: Sequence[str] = tuple(KINDS), cache: str | Path = CACHE) -> int:
    """Delete what is kept of these kinds, and return how many bytes that freed.

    Only files that spikeclip writes are deleted. Embeddings that another process is computing stay. Raises `InputError`
    for a kind that does not exist.
    """
    _check(kinds)
    freed = 0
    for kind in kinds:
        files = _files(cache, kind)
        busy = tuple(str(file.with_suffix("")) for file in files if file.suffix == ".lock" and _held(file))
        for file in files:
            if not str(file).startswith(busy):
                freed += file.stat().st_blocks * 512
                file.unlink(missing_ok=True)
    return freed


def _check(kinds: Sequence[str]) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of cache", kind, KINDS)


def _files(cache: str | Path, kind: str) -> list[Path]:
    folder = Path(cache).expanduser() / kind
    return sorted(file for file in folder.glob("*") if file.is_file() and file.suffix in _ENDINGS)


def _held(lock: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
