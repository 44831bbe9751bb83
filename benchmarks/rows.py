"""Searches over stored rows: how long they take, exact and approximate, and what the latter miss.

python -m benchmarks.search rows --rows 100000 1000000 --out results/search/rows.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks.command import write

DIM, TOP = 512, 10


def vectors(rows: int, kind: str, size: int = 50_000) -> Iterator[np.ndarray]:
    """Yield unit vectors: random ones, or such as pictures have: around one of a thousand directions each."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, DIM), dtype=np.float32)
    for start in range(0, rows, size):
        yield _drawn(rng, centres, min(size, rows - start), kind)


def queries(count: int, kind: str) -> np.ndarray:
    """Return unit vectors of that kind (count, DIM) that are no rows."""
    centres = np.random.default_rng(0).standard_normal((1000, DIM), dtype=np.float32)
    return _drawn(np.random.default_rng(1), centres, count, kind)


def _drawn(rng: np.random.Generator, centres: np.ndarray, count: int, kind: str) -> np.ndarray:
    rows_ND = rng.standard_normal((count, DIM), dtype=np.float32)
    if kind == "clustered":
        rows_ND = 0.7 * rows_ND + centres[rng.integers(0, len(centres), count)]
    return rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)


def search_speed(arguments: argparse.Namespace, scratch: Path, noise: Any) -> dict[str, Any]:
    """Time searches over stored rows, exact and approximate, each in a process that has nothing else loaded.

    The record is written after each size, so that a run that is cut short leaves what it has.
    """
    from spikeclip.search.index import Index

    found: list[dict[str, Any]] = []
    for kind in arguments.kinds:
        for rows in arguments.rows:
            folder = scratch / f"{kind}-{rows}"
            store_rows(folder, rows, kind)
            index = Index.open(folder)
            row: dict[str, Any] = {"kind": kind, "rows": rows, "disk_mb": index.stats().bytes / 1e6}
            for name in ("exact", "approximate"):
                index.set_approximate(name == "approximate")
                noise.sample()
                row[name] = _timed(folder, kind, arguments.queries)
            right = zip(row["exact"].pop("found"), row["approximate"].pop("found"), strict=True)
            row["approximate"][f"recall@{TOP}"] = mean(len(set(a) & set(b)) / TOP for a, b in right)
            for name in ("exact", "approximate"):
                print(f"{kind} {rows:,} {name}: " + json.dumps(row[name]), flush=True)
            found.append(row)
            write(arguments, {"searches": found}, noise.summary())
            shutil.rmtree(folder)
    return {"searches": found}


def store_rows(folder: Path, rows: int, kind: str) -> None:
    """Make an index of so many rows in a folder that is not there."""
    from spikeclip.search import store
    from spikeclip.search.index import Index

    folder.mkdir()
    store.write_about(folder, store.About("benchmark", "benchmark", DIM, []))
    table, _ = store.open_tables(folder, DIM)
    same = {"size": 1, "mtime": 1.0, "width": 640, "height": 480, "fingerprint": "benchmark", "indexed": 1.0}
    start = 0
    for part in vectors(rows, kind):
        names = range(start, start + len(part))
        table.add(store.as_batch([{"id": f"{i:064x}", "path": f"/p/{i}.jpg", **same} for i in names], part))
        start += len(part)
    Index.open(folder).compact()


def _timed(folder: Path, kind: str, count: int) -> dict[str, Any]:
    code = "import sys; from benchmarks.rows import timed; timed(sys.argv[1], sys.argv[2], int(sys.argv[3]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path]))}
    command = [sys.executable, "-c", code, str(folder), kind, str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def timed(folder: str, kind: str, count: int) -> None:
    """Print the times of searches in an index, ms, the time of the first, which reads it, and the memory, MiB."""
    from benchmarks.machine import peak_memory
    from spikeclip.search import Index

    index, asked = Index.open(folder), queries(count + 3, kind)
    begin = time.perf_counter()
    index.search(asked[0], TOP)
    first, seconds, found = time.perf_counter() - begin, [], []
    for query in asked[1:3]:
        index.search(query, TOP)
    for query in asked[3:]:
        begin = time.perf_counter()
        hits = index.search(query, TOP)
        seconds.append(1000 * (time.perf_counter() - begin))
        found.append([hit.id for hit in hits])
    status = Path("/proc/self/status").read_text()
    now = int(status.split("VmRSS:")[1].split()[0]) / 1024
    times = {"p50_ms": median(seconds), "least_ms": min(seconds), "p99_ms": float(np.percentile(seconds, 99))}
    print(json.dumps({**times, "first_s": first, "peak_mib": peak_memory(), "mib": now, "found": found}))
