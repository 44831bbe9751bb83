"""What is measured how: sizes, time of a call, peak memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

TIMES = (1, 4, 8, 16)
"""Time steps of the neurons that are timed."""


@dataclass(frozen=True)
class Size:
    """How much is measured: the defaults on a GPU, `SMALL` to see on a CPU that it works."""

    neurons: int = 3 * 2**21
    """Of one time step: 256 pictures of 384 channels at 8 x 8."""
    checked: int = 2**17 + 8
    """Neurons of one time step whose spikes and gradients are compared with the CPU's."""
    copied: int = 2**30
    """Bytes that are copied to know the bandwidth of the card."""
    batches: Mapping[str, int] = field(
        default_factory=lambda: {"spikeclip-base": 256, "spikeclip-tiny": 1000}
    )
    """Pictures of a training step."""
    image: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Changes of the presets' image towers."""
    pictures: int = 50_000
    """That the training command learns from."""
    epochs: int = 6
    """Of the training command; the first, in which things are compiled, is not counted."""
    seconds: float = 0.2
    """Length of a round, after which the device is waited for once."""
    backend: str = "inductor"
    """Of torch.compile."""


SMALL = Size(
    neurons=512,
    checked=1032,
    copied=2**20,
    batches={"spikeclip-base": 4, "spikeclip-tiny": 8},
    image={
        "spikeclip-base": {"widths": [4, 4, 8, 8, 16], "depth": 1, "num_heads": 2},
        "spikeclip-tiny": {"widths": [4, 8]},
    },
    pictures=64,
    epochs=2,
    seconds=0.0,
    backend="aot_eager",
)


@dataclass(frozen=True)
class Measurement:
    """One row of the record.

    run(size) returns its numbers. environment: variables of its process, for what is chosen at the start of one.
    compiles: whether torch.compile's caches are to be filled before it is timed.
    """

    run: Callable[[Size], dict[str, Any]]
    environment: Mapping[str, str] = field(default_factory=dict)
    compiles: bool = False


def device() -> torch.device:
    """Return what is measured: the GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait() -> None:
    """Wait until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(call: Callable[[], Any], size: Size, rounds: int = 3) -> dict[str, Any]:
    """Return the `seconds` of a call, the median of rounds, and the `peak_bytes` that it and its weights take.

    A round is many calls behind each other, as in a training: the device is waited for at its end alone.
    """
    for _ in range(2):
        call()
    wait()
    start = time.perf_counter()
    call()
    wait()
    calls = max(1, min(500, round(size.seconds / (time.perf_counter() - start))))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        found.append((time.perf_counter() - start) / calls)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"seconds": median(found), "spread": max(found) / min(found), "peak_bytes": peak}
