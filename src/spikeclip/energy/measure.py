"""Level 4: wall time, and joules where the machine lets a program read them (RAPL of processors, NVML of GPUs)."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")


def joule_meters() -> dict[str, Callable[[], float]]:
    """Return the energy counters that can be read here, name -> function that returns joules since some start."""
    return {**_rapl(), **_nvml()}


def measure(run: Callable[[], Any], inputs: int, seconds: float = 2.0) -> dict[str, Any]:
    """Repeat `run`, which handles `inputs` inputs, for at least `seconds` seconds after one run to warm up.

    Returns seconds and joules per input: `joules` holds each meter's, of the whole package or card, whatever else ran
    there and its idle power included; it is empty, and `why_no_joules` says so, where no meter can be read.
    """
    run()
    meters = joule_meters()
    before = {name: read() for name, read in meters.items()}
    runs, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        run()
        runs += 1
    elapsed = time.perf_counter() - start
    joules = {name: max(0.0, read() - before[name]) / (runs * inputs) for name, read in meters.items()}
    return {
        "seconds": elapsed / (runs * inputs),
        "inputs_per_second": runs * inputs / elapsed,
        "joules": joules,
        "why_no_joules": None
        if joules
        else f"no counter in {POWERCAP} (RAPL) or of NVML can be read on this machine",
    }


def _rapl() -> dict[str, Callable[[], float]]:
    meters: dict[str, Callable[[], float]] = {}
    for zone in sorted(POWERCAP.glob("*-rapl:*")):
        if zone.name.count(":") != 1:  # a part of a package, whose counter includes it
            continue
        counter = zone / "energy_uj"

        def read(counter: Path = counter) -> float:
            return int(counter.read_text()) * 1e-6

        try:
            read()
            meters[f"RAPL {(zone / 'name').read_text().strip()}"] = read
        except OSError:  # since 2020 only root may read it, and few virtual machines have it
            continue
    return meters


def _nvml() -> dict[str, Callable[[], float]]:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return {}
    count = ctypes.c_uint()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return {}
    meters: dict[str, Callable[[], float]] = {}
    for i in range(count.value):
        device, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        nvml.nvmlDeviceGetHandleByIndex_v2(i, ctypes.byref(device))
        if nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules)):
            continue  # cards before Volta do not count

        def read(device: ctypes.c_void_p = device) -> float:
            value = ctypes.c_ulonglong()
            nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(value))
            return value.value * 1e-3

        meters[f"NVML GPU {i}"] = read
    return meters
