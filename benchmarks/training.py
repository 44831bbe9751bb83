"""One training step of our neurons against SpikingJelly's in the same tower: time and peak memory.

python -m benchmarks.training --out results/training.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import finish, number, options, run, show
from benchmarks.contestants import Job
from benchmarks.machine import Noise
from benchmarks.prepare import normalized
from benchmarks.race import Result, race
from benchmarks.steps import CONTESTANTS, PEER
from spikeclip.config import NeuronConfig, model_config, to_dict
from spikeclip.data.sources import load_pictures

COLUMNS = ["contestant", "images/s", "ms", "spread", "x SpikingJelly", "peak MiB", "x its memory"]


def main() -> None:
    """Read the options, race at every batch size, print and write."""
    parser = options("Speed and memory of a training step.", [16])
    parser.add_argument("--model", default="spikeclip-base", help="preset whose image tower is trained")
    arguments = parser.parse_args()
    noise, passes = Noise(arguments.threads), []
    with tempfile.TemporaryDirectory(prefix="spikeclip-bench-") as scratch:
        write_task(arguments, Path(scratch))
        for batch in arguments.batch:
            jobs = {
                name: Job(name, scratch, batch, arguments.threads, table="benchmarks.steps")
                for name in CONTESTANTS
                if not arguments.only or arguments.only in name
            }
            timing = {"repeats": arguments.repeats, "seconds": arguments.seconds}
            rows = compare(race(jobs, noise, embed=False, **timing))
            print_rows(
                f"{arguments.model}, a training step, batch {batch}, {arguments.threads} threads", rows
            )
            passes.append({"batch": batch, "rows": rows})
    finish(arguments, {"model": arguments.model, "passes": passes}, noise.summary())


def write_task(arguments: argparse.Namespace, folder: Path) -> None:
    """Write what `step` reads: the configuration and training pictures."""
    config = dataclasses.replace(model_config(arguments.model), neuron=NeuronConfig())
    pictures = load_pictures(arguments.data, "train", config.image.format, limit=max(arguments.batch))
    np.save(folder / "pictures.npy", normalized(config.image, pictures.images))
    (folder / "config.json").write_text(json.dumps({"model_type": "spikeclip", **to_dict(config)}))


def compare(results: dict[str, Result]) -> list[dict[str, Any]]:
    """Return the rows of the record: each result with its ratios to SpikingJelly in fp32."""
    peer = results.get(PEER)
    rows = []
    for name, result in results.items():
        row = {"name": name, **result.record(), "speed_over_peer": None, "memory_over_peer": None}
        if peer and peer.median and result.median and peer.peak_mib and result.peak_mib:
            row["speed_over_peer"] = peer.median / result.median
            row["memory_over_peer"] = result.peak_mib / peer.peak_mib
        rows.append(row)
    return rows


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Print one race as a table; who could not run is named below it."""
    table = [
        [
            row["name"],
            number(row["images_per_second"], 2),
            number(1000 * row["median"], 0),
            f"{max(row['seconds']) / min(row['seconds']):.2f}",
            number(row["speed_over_peer"], 2),
            number(row["peak_mib"], 0),
            number(row["memory_over_peer"], 2),
        ]
        for row in rows
        if row["median"]
    ]
    show(title, COLUMNS, table, rows)


if __name__ == "__main__":
    run(main)
