"""What the stages of one training share, and how it is interrupted."""

from __future__ import annotations

import atexit
import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator

from spikeclip.config.run import FeedKind
from spikeclip.errors import Interrupted
from spikeclip.train.report import Report


@dataclass(frozen=True)
class Session:
    """What the stages of one training share.

    accelerator: the processes and their devices. report: the log. precision: autocast dtype of matrix products.
    checkpoint_seconds: longest time between checkpoints. interrupted: whether this process has
    received a signal to stop. feed: how pictures come to the device, and recompute: whether activations are computed
    again, as in a recipe.
    """

    accelerator: Accelerator
    report: Report
    precision: torch.dtype
    checkpoint_seconds: float
    interrupted: Callable[[], bool]
    feed: FeedKind = "auto"
    recompute: Literal["auto"] | bool = "auto"

    def any_interrupted(self) -> bool:
        """Whether any process has received a signal to stop; all have to ask after the same step."""
        flag, accelerator = self.interrupted(), self.accelerator
        if accelerator.num_processes == 1:
            return flag
        return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)))


@contextlib.contextmanager
def open_session(
    accelerator: Accelerator,
    report: Report,
    precision: torch.dtype,
    checkpoint: Path,
    minutes: float,
    feed: FeedKind = "auto",
) -> Iterator[Session]:
    """Yield the session of a training and close its log behind it, however it ends.

    checkpoint: the file that an `Interrupted` names. minutes: longest time between checkpoints. feed: see `Session`.
    """
    try:
        with catch_signals() as interrupted:
            yield Session(accelerator, report, precision, 60 * minutes, interrupted, feed)
    except Interrupted:
        raise Interrupted(f"stopped; the checkpoint is {checkpoint}; continue with --resume") from None
    finally:
        report.close()


@contextlib.contextmanager
def catch_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag; a second one acts as usual."""
    caught = []

    def catch(number: int, frame: Any) -> None:
        caught.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    previous = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@atexit.register
def _leave_group() -> None:
    """Leave the group of processes in order: its threads may otherwise abort a process that ends."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
