"""Which layers run dense, saved from one start to the next: to time them takes seconds and memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np

from spikeclip.errors import InputError
from spikeclip.files import replacing
from spikeclip.graph.ops import Graph

FOLDER = Path("~/.cache/spikeclip/engine")


def load_choice(key: str) -> list[str] | None:
    """Return the names of the layers that were chosen to run dense, or None where no readable choice is saved."""
    try:
        names = json.loads(_file(key).read_text())["dense"]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None
    good = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if good else None


def save_choice(key: str, dense: Collection[str]) -> None:
    """Save a choice; where the folder cannot be written, the next start measures again."""
    try:
        _file(key).parent.mkdir(parents=True, exist_ok=True)
        with replacing(_file(key)) as file:
            file.write(json.dumps({"dense": sorted(dense)}).encode())
    except (OSError, InputError, RuntimeError):  # RuntimeError: a user without a home
        pass


def choice_key(graph: Graph, precision: str, threads: int, batch: int) -> str:
    """Return a hash of everything that the choice depends on: network, processor, threads, and size of the batch.

    Sizes of a batch between two powers of two give the same hash.
    """
    processor = (llvmlite.binding.get_host_cpu_name(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    versions = [version(package) for package in ("spikeclip", "numba", "openvino")]
    run = (precision, threads, batch.bit_length(), versions)
    digest = hashlib.sha256(repr((processor, run)).encode())
    for op in graph.ops:
        for name, value in vars(op).items():
            array = isinstance(value, np.ndarray)
            digest.update(repr((name, value.shape, value.dtype) if array else (name, value)).encode())
            if array:
                digest.update(value.tobytes())
    return digest.hexdigest()


def _file(key: str) -> Path:
    return FOLDER.expanduser() / f"{key}.json"
