"""numba's compiled code, kept on disk for later starts wherever there is a place for it."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache


def compiled(function: Callable, **options: Any) -> Any:
    """Return `numba.njit(function)`, which is compiled at its first call, or read from disk if it was before.

    It is kept beside the source, in the user's cache or, where neither can be written, in a temporary folder of the
    user's own; without any of them it is compiled at each start.
    """
    dispatcher = numba.njit(**options)(function)
    for folder in (None, _temporary_folder):
        try:
            if folder is not None:
                numba.config.CACHE_DIR = folder()  # type: ignore[attr-defined]
            dispatcher._cache = _Cache(function)  # type: ignore[attr-defined]
            break
        except (RuntimeError, OSError):  # numba has no place to keep it
            continue
    dispatcher.compile = _signals_held()(dispatcher.compile)  # type: ignore[method-assign]
    return dispatcher


def has_place(dispatcher: Any) -> bool:
    """Whether there is a place on disk for the code of a `compiled` function."""
    return isinstance(dispatcher._cache, _Cache)


def is_kept(dispatcher: Any, kinds: tuple) -> bool:
    """Whether the code of a `compiled` function is on disk, for arguments of these types."""
    found = dispatcher._cache
    try:
        key = found._index_key(kinds, dispatcher.targetctx.codegen())
        return found._cache_file.load(key) is not None
    except Exception:  # not kept at all, or damaged
        return False


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM come a moment later: LLVM calls back into Python, where an exception would be lost."""
    held: dict[int, Any] = {}
    came: list[int] = []
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                held[number] = handler
                signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    for number in dict.fromkeys(came):
        signal.raise_signal(number)


class _Cache(FunctionCache):
    """numba's cache, without which all still works: a damaged one is made anew, and a full disk keeps nothing."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever pickle raises
            with suppress(OSError):
                self.flush()

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)

    def _index_key(self, sig: Any, codegen: Any) -> tuple:
        # numba's key has the function's own file; what is inlined stands in the files beside it.
        return (*super()._index_key(sig, codegen), _sources(Path(self._py_func.__code__.co_filename).parent))


@cache
def _sources(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _temporary_folder() -> str:
    """Return a folder that nobody else can write to: what is in it is run. Raises `OSError` where there is none."""
    user = os.geteuid() if hasattr(os, "geteuid") else ""
    folder = Path(tempfile.gettempdir(), f"spikeclip-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (user != "" and (found.st_uid != user or found.st_mode & 0o077)):
        raise PermissionError(f"{folder} belongs to someone else")
    return str(folder)
