"""The contestants against each other: one process each, one turn each, round after round."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from types import TracebackType
from typing import Any

from rich.console import Console

from benchmarks.contestants import Job
from benchmarks.machine import Noise

PAUSE = 0.1
"""Seconds before a turn, in which the threads of the one before, which wait for work by spinning, go to sleep."""


@dataclass
class Result:
    """What one contestant did; seconds holds the mean time of a call in every round."""

    job: Job
    status: str = "ready"
    why: str = ""
    seconds: list[float] = field(default_factory=list)
    start_seconds: float | None = None
    """From the start of the process to the end of its first call, with every cache filled."""
    peak_mib: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    embeddings: Path | None = None

    @property
    def median(self) -> float | None:
        """Seconds per call, None where there are none."""
        return median(self.seconds) if self.seconds else None

    def record(self) -> dict[str, Any]:
        """Return everything for JSON, with the images per second."""
        rate = self.job.batch / self.median if self.median else None
        values = dataclasses.asdict(self)
        del values["embeddings"]
        return {**values, "median": self.median, "images_per_second": rate}


class _Child:
    """A worker process; `ask` sends a command and waits for the answer."""

    def __init__(self, job: Job, environment: Mapping[str, str]) -> None:
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(job.threads)
        )
        path = os.pathsep.join(filter(None, [job.packages, *sys.path]))
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            start_new_session=True,
            env={**os.environ, **threads, **environment, "PYTHONPATH": path},
        )
        self.ready = self.ask(**dataclasses.asdict(job))
        self.start_seconds = time.perf_counter() - self.started

    def ask(self, **command: Any) -> dict[str, Any]:
        pipes: Any = self.process
        try:
            print(json.dumps(command), file=pipes.stdin)
            answer = pipes.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            return {"status": "failed", "why": f"its process ended with status {self.process.wait()}"}
        return json.loads(answer)

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(self.process.pid, signal.SIGKILL)  # with the processes that torch.compile keeps
        with self.process:
            pass  # closes the pipes and waits


def race(
    jobs: Mapping[str, Job],
    noise: Noise,
    *,
    repeats: int = 7,
    seconds: float = 0.5,
    environment: Mapping[str, str] | None = None,
    embed: bool = True,
    without: Collection[str] = (),
) -> dict[str, Result]:
    """Measure every job; returns a result for each, in their order.

    A round gives each contestant one turn of at least `seconds`, so that a slow minute of the machine hits them
    all; the order of each round is drawn by its number, so that nobody always follows the same one. environment:
    variables of the children. embed: also embed all pictures of the job's folder, into a file beside them. without:
    notes that are not asked for at the end; `explain` measures every layer of an engine.
    """
    console = Console(stderr=True)
    results = {name: Result(job) for name, job in jobs.items()}
    with ExitStack() as stack:
        status = stack.enter_context(console.status("starting"))
        children: dict[str, _Child] = {}
        for name, job in jobs.items():
            status.update(f"starting {name}")
            with _Child(job, environment or {}) as first:  # fills caches on disk: numba's, torch.compile's
                answer = first.ready
            if answer["status"] == "ready":
                child = children[name] = stack.enter_context(_Child(job, environment or {}))
                answer, results[name].start_seconds = child.ready, child.start_seconds
            if not _accept(results[name], answer):
                children.pop(name, None)
        calls = dict.fromkeys(children, 1)
        for turn in range(repeats + 1):
            noise.sample()
            for name in Random(turn).sample(list(children), len(children)):
                status.update(f"round {turn} of {repeats}: {name}")
                time.sleep(PAUSE)
                answer = children[name].ask(do="time", calls=calls[name])
                if not _accept(results[name], answer):
                    del children[name]
                elif turn == 0:  # warm-up, and how many calls fill a turn
                    calls[name] = max(1, round(seconds / answer["seconds"]))
                else:
                    results[name].seconds.append(answer["seconds"])
        noise.sample()
        for number, (name, child) in enumerate(children.items()):
            status.update(f"accuracy: {name}")
            report = child.ask(do="report", without=list(without))
            if not _accept(results[name], report):
                continue
            results[name].peak_mib, results[name].notes = report["peak_mib"], report["notes"]
            file = Path(jobs[name].folder) / f"embeddings-{number}.npy"
            if embed and _accept(results[name], child.ask(do="embed", out=str(file))):
                results[name].embeddings = file
    return results


def _accept(result: Result, answer: Mapping[str, Any]) -> bool:
    """Note a failure in the result; say whether the contestant goes on."""
    if answer.get("status", "ready") == "ready":
        return True
    result.status, result.why = answer["status"], answer["why"].splitlines()[0]
    return False
