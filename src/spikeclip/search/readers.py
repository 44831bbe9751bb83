"""Processes that read pictures beside the engine, each kept by a thread that waits for its answers."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import IO

from spikeclip.search.worker import Reading, Task, send

_AHEAD, _EACH = 128, 4
"""Files that are asked for before the first of them is used: so many, and so many more for each process."""


class Readers:
    """A pool of processes that decode pictures to `image_size`; used as a context, at whose end they end.

    They are programs of their own, not forks: a fork of a process with threads may hang. What kills one of them, such
    as a lack of memory, costs the picture that it had, and is said.
    """

    def __init__(self, image_size: int, count: int) -> None:
        self._count, self._own, self._processes = count, threading.local(), set[subprocess.Popen[bytes]]()
        # -c and this path: what is imported here can be imported there, from wherever it comes.
        code = f"import sys; sys.path[:] = {json.dumps(sys.path)}\n"
        code += f"from spikeclip.search.worker import main; main({image_size})"
        self._command = [sys.executable, "-c", code]
        self._threads = ThreadPoolExecutor(count, "spikeclip-reader")

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._processes):
            process.kill()
        self._threads.shutdown(wait=True)
        for process in list(self._processes):
            self._end(process)

    @property
    def pids(self) -> list[int]:
        """The processes that are alive."""
        return [process.pid for process in self._processes if process.poll() is None]

    def read(self, tasks: Iterable[Task]) -> Iterator[Reading]:
        """Yield what the files hold, as they are ready."""
        waiting, coming = set[Future[Reading]](), iter(tasks)
        while True:
            free = _AHEAD + _EACH * self._count - len(waiting)
            waiting |= {self._threads.submit(self._read, task) for task in islice(coming, free)}
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()

    def _read(self, task: Task) -> Reading:
        """Let this thread's process read a file; where it is killed, once more, by a new one."""
        ended = 0
        for _ in range(2):
            process = self._process()
            try:
                send(task, _pipe(process.stdin))
                return pickle.load(_pipe(process.stdout))
            except (EOFError, OSError, pickle.UnpicklingError):
                self._own.process = None
                process.kill()
                ended = self._end(process)
        signal = f"signal {-ended}" if ended < 0 else f"status {ended}"
        memory = ", most likely for lack of memory" if ended == -9 else ""
        return Reading(task.path, why=f"the process that read it was ended by {signal}{memory}")

    def _process(self) -> subprocess.Popen[bytes]:
        process = getattr(self._own, "process", None)
        if process is None:
            pipe = subprocess.PIPE
            process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe)
            self._processes.add(process)
            self._own.process = process
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        self._processes.discard(process)
        for pipe in (process.stdin, process.stdout):
            try:
                _pipe(pipe).close()
            except OSError:  # what was not written any more
                continue
        return process.wait()


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
