"""A process that reads pictures for an index: paths come in by stdin, what they hold goes out by stdout.

It imports neither LanceDB nor the engine, and ends when its parent does, because then stdin ends.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import signal
import stat
import sys
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from spikeclip.data.decode import decode_sized

MOST_PIXELS = 100_000_000
MOST_BYTES = 1 << 30
"""Of a file, so that it fits the memory; no picture within the bound of pixels is as large."""


@dataclass(frozen=True)
class Task:
    """A file to read. known: contents of its size that have embeddings already, and need not be decoded."""

    path: str
    known: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reading:
    """What a file held."""

    path: str
    size: int = 0
    mtime: float = 0.0
    id: str = ""
    """SHA-256 of its content."""
    pixels: np.ndarray | None = None
    """uint8 (image_size, image_size, 3); None for a content that is known already."""
    width: int = 0
    height: int = 0
    why: str = ""
    """Why it cannot be read; empty where it can."""
    lasting: bool = False
    """Whether only a change of the file can help: damaged bytes, but not a missing permission."""


def read_picture(task: Task, image_size: int) -> Reading:
    """Read one file: its hash and, unless that is known, its pixels."""
    try:
        # Opened without waiting: a pipe would never answer.
        with open(os.open(task.path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                return Reading(task.path, why="not a regular file")
            place = {"path": task.path, "size": facts.st_size, "mtime": facts.st_mtime}
            if facts.st_size > MOST_BYTES:
                return Reading(**place, why=f"a file of more than {MOST_BYTES >> 20} MiB", lasting=True)
            data = file.read()
    except MemoryError:
        return Reading(task.path, why="not enough memory to read it")
    except OSError as error:
        return Reading(task.path, why=(error.strerror or type(error).__name__).lower())
    found = hashlib.sha256(data).hexdigest()
    if found in task.known:
        return Reading(**place, id=found)
    decoded = decode_sized(data, image_size, MOST_PIXELS)
    if isinstance(decoded, str):
        return Reading(**place, why=decoded, lasting="memory" not in decoded)
    return Reading(**place, id=found, pixels=decoded.pixels, width=decoded.width, height=decoded.height)


def send(value: Any, file: IO[bytes]) -> None:
    """Write one value to the other process."""
    pickle.dump(value, file, protocol=pickle.HIGHEST_PROTOCOL)
    file.flush()


def main(image_size: int) -> None:
    """Read pictures until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this
    out = io.FileIO(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints does not reach the parent as an answer
    answers = io.BufferedWriter(out)
    while True:
        try:
            task = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            send(read_picture(task, image_size), answers)
        except BrokenPipeError:
            os._exit(0)
