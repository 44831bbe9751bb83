"""Files that are whole or not there, and folders that are free to be written."""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import os
import platform
import secrets
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

from spikeclip.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not empty; raises `InputError` where there is no such file."""
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"no such file of texts: {path}")
    return [line.strip() for line in text_of(path.read_bytes(), str(path)).splitlines() if line.strip()]


def text_of(data: bytes, where: str) -> str:
    """Return a text in UTF-8, without the mark that some editors put before it; raises `InputError` for another."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{where}: its text is not UTF-8; save it again with this encoding") from None


def folders_beside(path: Path) -> list[str]:
    """Return the folders in the place of a path, the first thousand entries, as it would be written; empty without one.

    They are what may have been meant where nothing is at the path.
    """
    if not os.path.isdir(path.parent):
        return []
    return [str(entry) for entry in islice(path.parent.iterdir(), 1000) if os.path.isdir(entry)]


def check_free(out: Path, kind: str, holds_one: bool) -> None:
    """Raise `InputError` where `out` is a file, or a folder of something that is not a `kind` to be replaced."""
    if not holds_one and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise InputError(f"{out} is not empty and not a {kind}: choose another --out")


def check_readable(file: Path) -> None:
    """Raise `InputError` where a file is there and may not be read: safetensors says then that there is none."""
    if file.exists() and not os.access(file, os.R_OK):
        raise InputError(f"{file}: permission denied; its owner can allow it by chmod a+r")


def check_target(path: Path) -> None:
    """Raise `InputError` where writing to `path` would follow a symbolic link."""
    if path.is_symlink():
        raise InputError(
            f"{path} is a symbolic link, to {os.readlink(path)}: it is not written to; remove it first"
        )


def is_full_disk(error: OSError) -> bool:
    """Whether an error says that a file had no more room: on the disk, or in what its user or process may write."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def full_disk(error: OSError, path: Path | None = None) -> InputError:
    """Return the `InputError` for an error that `is_full_disk`, of writing `path` by way of another file."""
    reason = "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror).lower()
    if path is None:
        return InputError(
            f"{reason}: {error.filename or 'a file'} could not be written; make room and start again"
        )
    kept = "the last good one is kept" if path.is_file() else "nothing is left of it"
    return InputError(f"{reason}: {path} could not be written, {kept}; make room and start again")


class _File(io.FileIO):
    """A file that remembers why it could not be written: PyTorch raises an error of its own, without the reason."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that takes the place of `path` once it is written and synced; a failure removes it.

    Its permissions are those of any new file. Raises `InputError` where `path` is a symbolic link or the disk is full.
    """
    check_target(path)
    prefix = f".{path.name[:40]}."  # names have at most 255 bytes
    temporary = path.with_name(f"{prefix}{secrets.token_hex(4)}.tmp")
    raw = None
    try:
        _remove_left(path.parent, prefix)
        raw = _File(temporary, "xb")
        with io.BufferedWriter(raw) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        cause = raw.error if raw is not None and raw.error is not None else error
        if isinstance(cause, OSError) and is_full_disk(cause):
            raise full_disk(cause, path) from error
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _remove_left(folder: Path, prefix: str) -> None:
    """Remove what a kill has left of earlier files: nobody has written to it for an hour."""
    for left in folder.glob(f"{glob.escape(prefix)}{'[0-9a-f]' * 8}.tmp"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()


def lock_file(path: Path, does: str, otherwise: str) -> IO[str]:
    """Open and lock a file; it is free again when it is closed or the process ends, whatever ends it.

    does: what its owner does in the folder of the file, and otherwise: what a user can do where another process has it,
    for the `InputError` raised then. Where the file system or the machine has no locks, it warns.
    """
    check_target(path)
    while True:
        file = path.open("a+")
        if fcntl is None:
            return _unlocked(file, path, does, f"{platform.system()} has no flock")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                owner = file.read().strip() or "another process"
            raise InputError(f"{owner} {does} in {path.parent}: {otherwise}") from None
        except OSError as error:  # a network file system without a lock service
            return _unlocked(file, path, does, error.strerror or type(error).__name__)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            with suppress(OSError):  # no room for a name
                file.truncate(0)
                file.write(f"process {os.getpid()} on {platform.node()}")
                file.flush()
            _LOCKS.add(file)
            return file
        file.close()  # its last owner has removed it meanwhile


_LOCKS: WeakSet[IO[str]] = WeakSet()


def _let_go() -> None:
    """Close the locks in a forked process, which would hold them for as long as it lives."""
    for file in list(_LOCKS):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _unlocked(file: IO[str], path: Path, does: str, reason: str) -> IO[str]:
    warnings.warn(
        f"{path.parent} cannot be locked ({reason}): see to it that no other process {does} there",
        stacklevel=4,
    )
    return file
