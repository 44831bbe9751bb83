"""Everything that is claimed of one GPU, in one run of at most five minutes.

python -m benchmarks.gpu --out results/gpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.command import number, run
from benchmarks.gpu.measure import Measurement
from benchmarks.gpu.plan import measurements
from benchmarks.gpu.targets import TARGETS, over_floor
from benchmarks.machine import environment
from spikeclip.cli.tables import print_table
from spikeclip.records import write_record

LONGEST = 90.0
"""Seconds that one measurement may take."""
FILLING = 100.0
"""Seconds after which compilers' caches are no longer filled and the timing begins."""
INTERPRETED = {"TRITON_INTERPRET": "1"}
TARGET_COLUMNS = ["target", "measured", "at least", "aim", "met"]
COLUMNS = ["measurement", "ms", "x floor", "pictures/s", "peak GiB"]


def main() -> None:
    """Read the options, fill caches, measure, print and write."""
    parser = argparse.ArgumentParser(
        description="Speed, memory and correctness on one GPU.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--small", action="store_true", help="tiny sizes, to see on a CPU that all of it works"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="what has not begun by then is left out")
    parser.add_argument("--packages", help="folder of SpikingJelly 2, before the installed packages")
    parser.add_argument(
        "--only", nargs="+", default=[], help="only measurements with one of these in their name"
    )
    parser.add_argument("--out", type=Path, help="file for the JSON record")
    arguments = parser.parse_args()
    start = time.monotonic()
    deadline = start + 60 * arguments.minutes - 5
    wanted = measurements(arguments.only)
    rows = {
        name: {"status": "not measured", "why": f"{arguments.minutes:g} minutes were over"} for name in wanted
    }
    filling = [] if arguments.small else _fill(wanted, arguments)
    for names in (_checks(wanted, True), _checks(wanted, False)):
        for name, row in _measured({n: wanted[n] for n in names}, arguments, deadline):
            rows[name] = row
            print(f"{row['status']}: {name}" + (f" ({row['why']})" if "why" in row else ""), flush=True)
        _ended(filling, min(deadline, start + FILLING))
    found = {name: row for name, row in rows.items() if row["status"] == "measured"}
    card = _card()
    targets = [target.row(found if card["name"] else {}) for target in TARGETS]  # no CPU meets or misses one
    _show(rows, found, targets)
    if arguments.out:
        command = {key: value for key, value in vars(arguments).items() if not callable(value)}
        provenance = {**environment(os.cpu_count() or 1), "card": card, "command": command}
        write_record({"targets": targets, "rows": rows, "provenance": provenance}, arguments.out)
        print(f"written to {arguments.out}")


def _checks(wanted: Mapping[str, Measurement], checks: bool) -> list[str]:
    """Return the names of what is not timed, which runs while caches are filled, or of the rest."""
    return [name for name in wanted if name.startswith("agreement") == checks]


def _start(
    names: list[str], wanted: Mapping[str, Measurement], options: argparse.Namespace, once: bool
) -> Any:
    job = {"names": names, "small": options.small, "once": once}
    path = os.pathsep.join(filter(None, [options.packages, *sys.path]))
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu.worker", json.dumps(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={**os.environ, **_environment(wanted[names[0]], options), "PYTHONPATH": path},
    )


def _environment(measurement: Measurement, options: argparse.Namespace) -> Mapping[str, str]:
    """Return the variables of its process; small ones share one, where nothing of what they choose from is."""
    return INTERPRETED if options.small else measurement.environment


def _fill(wanted: Mapping[str, Measurement], options: argparse.Namespace) -> list[subprocess.Popen]:
    """Start a process for everything that is compiled, all at once: what they leave on disk is read later."""
    return [_start([name], wanted, options, once=True) for name, found in wanted.items() if found.compiles]


def _ended(processes: list[subprocess.Popen], deadline: float) -> None:
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    processes.clear()


def _measured(
    wanted: Mapping[str, Measurement], options: argparse.Namespace, deadline: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the row of each measurement that began before the deadline; one process takes those of one environment."""
    for _, group in groupby(wanted, lambda name: _environment(wanted[name], options)):
        names = list(group)
        while names and time.monotonic() < deadline:
            process = _start(names, wanted, options, once=False)
            try:
                while names and time.monotonic() < deadline:
                    name = names.pop(0)
                    row = _answer(process, min(LONGEST, deadline + 5 - time.monotonic()))
                    yield name, row
                    if process.poll() is not None or "ended" in row:
                        break
            finally:
                process.kill()
                process.wait()


def _answer(process: Any, seconds: float) -> dict[str, Any]:
    """Return the next line of a process, or say how it ended."""
    if not select.select([process.stdout], [], [], max(0.0, seconds))[0]:
        return {"status": "failed", "why": f"no answer in {seconds:.0f} s", "ended": True}
    line = process.stdout.readline()
    if not line:
        return {"status": "failed", "why": f"its process ended with status {process.wait()}", "ended": True}
    row = json.loads(line)
    del row["name"]
    return row


def _card() -> dict[str, Any]:
    """Return what decides the speed of the card; all None where there is none."""
    import torch

    values: dict[str, Any] = dict.fromkeys(("name", "driver", "memory_bytes", "cuda", "triton"))
    values |= {"cuda": torch.version.cuda, "date": datetime.now(UTC).isoformat(timespec="seconds")}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            said = subprocess.run(query, capture_output=True, text=True, timeout=10).stdout.split()
        except (OSError, subprocess.SubprocessError):
            said = []
        values |= {"name": properties.name, "memory_bytes": properties.total_memory}
        values["driver"] = said[0] if said else None
    return values


def _show(
    rows: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, Mapping[str, Any]],
    targets: list[dict[str, Any]],
) -> None:
    for name, row in found.items():
        if "differ" in row:
            errors = ", ".join(f"{dtype} {error:.1e}" for dtype, error in row["gradient_error"].items())
            print(
                f"{name}: {row['differ']} of {row['spikes']:,} spikes differ; largest gradient error {errors}"
            )
    table = [
        [
            name,
            number(row["seconds"] and 1000 * row["seconds"], 3) if "seconds" in row else "-",
            number(over_floor(found, name), 2) if "bytes" in row else "-",
            number(row.get("pictures_per_second"), 0),
            number(row["peak_bytes"] / 2**30, 2) if row.get("peak_bytes") else "-",
        ]
        for name, row in found.items()
        if "differ" not in row
    ]
    print_table("What was measured", COLUMNS, table, numbers=range(1, len(COLUMNS)))
    for name, row in rows.items():
        if name not in found:
            print(f"{row['status']}: {name} ({row['why']})")
    table = [
        [row["target"], number(row["value"], 2), f"{row['at_least']:,g}", f"{row['aim']:,g}", row["met"]]
        for row in targets
    ]
    print_table("Targets, on one H100", TARGET_COLUMNS, table, numbers=range(1, 4))


if __name__ == "__main__":
    run(main)
