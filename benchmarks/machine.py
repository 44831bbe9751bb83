"""What a measurement depends on besides the code: processor, libraries, and whoever else uses the machine."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_LIBRARIES = ("numba", "onnx", "onnxruntime", "openvino", "spikingjelly")

SLOWEST = 1.10
"""A machine is noisy when the median calibration took this many times the fastest one,"""
SHARE = 0.90
"""or when the calibrations got less than this share of the processor time they could have used."""

WITHOUT_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}
"""Takes the matrix units from PyTorch and OpenVINO; ONNX Runtime (MLAS) has no such switch."""


def environment(threads: int) -> dict[str, Any]:
    """Return spikeclip's provenance with the peers' versions, the instruction sets and the threads used."""
    from spikeclip.provenance import environment

    values = environment()
    for library in _LIBRARIES:
        try:
            values["versions"][library] = version(library)
        except PackageNotFoundError:
            values["versions"][library] = None
    values["machine"] |= {"instruction_sets": instruction_sets(), "threads": threads}
    return values


def instruction_sets() -> list[str]:
    """Return which of the instruction sets that decide a comparison the processor has; empty where unknown."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    flags = next(
        (line.split(":")[1].split() for line in cpuinfo.splitlines() if line.startswith("flags")), []
    )
    return [flag for flag in _FLAGS if flag in flags]


def has_amx() -> bool:
    """Say whether the processor has matrix units."""
    return any(flag.startswith("amx") for flag in instruction_sets())


def has_onnx_runtime() -> bool:
    """Say whether ONNX Runtime and the package that describes a network to it are installed."""
    return find_spec("onnx") is not None and find_spec("onnxruntime") is not None


def peak_memory() -> float:
    """Return the largest resident memory of this process so far, MiB.

    Not `ru_maxrss`: Linux carries that over from the parent through fork and exec.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


class Noise:
    """A fixed piece of work timed again and again between the measurements.

    It hashes bytes on every thread, outside Python's lock, in the first-level cache: nothing that this library or
    its peers could speed up, and slow only when somebody else wants the cores.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.seconds: list[float] = []
        self.processor_seconds = 0.0
        self._pool = ThreadPoolExecutor(threads)
        self._block = bytes(1 << 14)

    def sample(self) -> None:
        """Time the work once, about 30 ms."""
        time.sleep(0.1)  # threads of the contestant before may still spin
        wall, processor = time.perf_counter(), time.process_time()
        list(self._pool.map(self._hash, range(self.threads)))
        self.seconds.append(time.perf_counter() - wall)
        self.processor_seconds += time.process_time() - processor

    def _hash(self, number: int) -> None:
        digest = hashlib.sha256()
        for _ in range(3000):
            digest.update(self._block)

    def summary(self) -> dict[str, Any]:
        """Return the spread (median over fastest), the share of the processor, and whether that is noisy."""
        spread = median(self.seconds) / min(self.seconds)
        share = self.processor_seconds / (sum(self.seconds) * self.threads)
        return {
            "samples": len(self.seconds),
            "spread": spread,
            "processor_share": share,
            "noisy": spread > SLOWEST or share < SHARE,
        }


def noise_sentence(noise: dict[str, Any]) -> str:
    """Say in one line whether the figures can be trusted."""
    found = (
        f"calibration: median {noise['spread']:.2f} x the fastest of {noise['samples']}, "
        f"{100 * noise['processor_share']:.0f} % of the processor"
    )
    if noise["noisy"]:
        return f"THE MACHINE WAS TOO NOISY: use ratios at most, or repeat ({found})"
    return f"the machine was quiet ({found})"
