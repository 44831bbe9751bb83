"""One contestant in a process of its own: reads commands as JSON lines, answers in JSON lines.

The first line is the `Job`; the answer to it says that the first call is done. A status that is not "ready" is the
last answer.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import Embed, Job
from benchmarks.machine import peak_memory
from spikeclip.errors import InputError


def main() -> None:
    """Serve until the commands end."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    job = Job(**json.loads(sys.stdin.readline()))
    pictures_NHWC = np.load(Path(job.folder) / "pictures.npy")

    def start() -> dict[str, Any]:
        embed(pictures_NHWC[: job.batch])
        return {}

    def measure(calls: int) -> dict[str, Any]:
        return {"seconds": _time(embed, pictures_NHWC[: job.batch], calls)}

    def embed_all(out: str) -> dict[str, Any]:
        np.save(out, _embed_all(embed, pictures_NHWC, job.batch))
        return {}

    def report(without: list[str]) -> dict[str, Any]:
        peak = peak_memory()  # before a note needs some
        batch = pictures_NHWC[: job.batch]
        asked = {name: note for name, note in notes.items() if name not in without}
        return {"peak_mib": peak, "notes": {k: v(batch) if callable(v) else v for k, v in asked.items()}}

    commands = {"start": start, "time": measure, "embed": embed_all, "report": report}
    command: dict[str, Any] = {"do": "start"}
    try:
        embed, notes = importlib.import_module(job.table).CONTESTANTS[job.contestant].build(job)
        while command:
            answer = commands[command.pop("do")](**command)
            print(json.dumps({"status": "ready", **answer}, default=str), file=answers)
            command = json.loads(sys.stdin.readline() or "{}")
    except (ImportError, InputError) as error:  # not installed, or not for this network
        print(json.dumps({"status": "unavailable", "why": str(error)}), file=answers)
    except Exception as error:  # whatever a runtime raises is that row's result, not the end of the benchmark
        print(json.dumps({"status": "failed", "why": f"{type(error).__name__}: {error}"}), file=answers)


def _time(embed: Embed, images_BHWC: np.ndarray, calls: int) -> float:
    """Return seconds per call, after one call that brings caches and threads back."""
    embed(images_BHWC)
    start = time.perf_counter()
    for _ in range(calls):
        embed(images_BHWC)
    return (time.perf_counter() - start) / calls


def _embed_all(embed: Embed, pictures_NHWC: np.ndarray, batch: int) -> np.ndarray:
    rows = []
    for start in range(0, len(pictures_NHWC), batch):
        images_BHWC = pictures_NHWC[start : start + batch]
        missing = batch - len(images_BHWC)  # an exported network takes whole batches only
        padded_BHWC = np.pad(images_BHWC, ((0, missing), (0, 0), (0, 0), (0, 0)))
        rows.append(np.array(embed(padded_BHWC))[: len(images_BHWC)])
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
