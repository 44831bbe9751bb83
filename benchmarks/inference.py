"""Images per second of a trained spiking network against its peers and its ordinary twin.

python -m benchmarks.inference --lif runs/lif --ilif runs/ilif --relu runs/relu --out results/inference.json
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import finish, number, options, run, show
from benchmarks.contestants import CONTESTANTS, Job
from benchmarks.machine import WITHOUT_AMX, Noise, has_amx
from benchmarks.prepare import Network, prepare
from benchmarks.race import Result, race
from spikeclip.errors import InputError

COLUMNS = [
    "contestant", "images/s", "ms", "spread", "x SpikingJelly", "x fastest ANN",
    "accuracy", "density", "peak MiB", "start s",
]  # fmt: skip


def main() -> None:
    """Read the options, race at every batch size, print and write."""
    parser = options("Speed and accuracy of inference.", [1, 16])
    for neuron, what in (("lif", "LIF, T=4"), ("ilif", "I-LIF"), ("relu", "ANN twin")):
        parser.add_argument(f"--{neuron}", type=Path, help=f"saved model or run: {what}")
    parser.add_argument("--pictures", type=int, default=1000, help="test pictures for the accuracy")
    parser.add_argument(
        "--spikingjelly", type=Path, nargs="*", default=[], help="folders with further versions of it"
    )
    arguments = parser.parse_args()
    sources = {name: getattr(arguments, name) for name in ("lif", "ilif", "relu") if getattr(arguments, name)}
    if not sources:
        raise InputError("no model: give at least one of --lif, --ilif, --relu")
    noise, passes = Noise(arguments.threads), []
    with tempfile.TemporaryDirectory(prefix="spikeclip-bench-") as scratch:
        networks = {
            name: prepare(source, arguments.data, arguments.pictures, arguments.batch, Path(scratch) / name)
            for name, source in sources.items()
        }
        for amx, switches in units():
            for batch in arguments.batch:
                jobs = contestants(networks, batch, arguments)
                results = race(
                    jobs, noise, repeats=arguments.repeats, seconds=arguments.seconds, environment=switches
                )
                rows = compare(results, networks)
                print_rows(f"batch {batch}, {arguments.threads} threads{amx}", rows)
                passes.append({"batch": batch, "switches": switches, "rows": rows})
        facts = {name: network.facts for name, network in networks.items()}
    finish(arguments, {"networks": facts, "passes": passes}, noise.summary())


def units() -> list[tuple[str, dict[str, str]]]:
    """Return the passes over all contestants: as the machine is and, where it has AMX, once more without."""
    if not has_amx():
        return [("", {})]
    return [(", with AMX", {}), (", AMX off (ONNX Runtime has no switch and keeps it)", WITHOUT_AMX)]


def contestants(networks: dict[str, Network], batch: int, arguments: argparse.Namespace) -> dict[str, Job]:
    """Return a job for every contestant whose network is there."""
    jobs = {
        name: Job(name, str(networks[contestant.weights].folder), batch, arguments.threads)
        for name, contestant in CONTESTANTS.items()
        if contestant.weights in networks
    }
    if "lif" in networks:
        for folder in arguments.spikingjelly:
            job = Job("SpikingJelly", str(networks["lif"].folder), batch, arguments.threads)
            jobs[f"SpikingJelly in {folder}"] = _from(job, folder)
    return {name: job for name, job in jobs.items() if not arguments.only or arguments.only in name}


def _from(job: Job, folder: Path) -> Job:
    if not (folder / "spikingjelly").is_dir():
        raise InputError(
            f"{folder} holds no spikingjelly: pip install --no-deps --target {folder} spikingjelly"
        )
    return Job(job.contestant, job.folder, job.batch, job.threads, packages=str(folder.resolve()))


def compare(results: dict[str, Result], networks: dict[str, Network]) -> list[dict[str, Any]]:
    """Return the rows of the record: each result with its ratios, accuracy and density."""
    ann = [
        r.median for n, r in results.items() if CONTESTANTS[r.job.contestant].weights == "relu" and r.median
    ]
    peer = results["SpikingJelly"].median if "SpikingJelly" in results else None
    rows = []
    for name, result in results.items():
        network = networks[CONTESTANTS[result.job.contestant].weights]
        row = {"name": name, **result.record()}
        row["speed_over_spikingjelly"] = peer / result.median if peer and result.median else None
        row["speed_over_fastest_ann"] = min(ann) / result.median if ann and result.median else None
        row["accuracy"] = network.accuracy(result.embeddings) if result.embeddings else None
        row["density"] = network.facts["spikes"]["mean_density"]
        rows.append(row)
    return rows


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Print one race as a table; who could not run is named below it."""
    ran = [row for row in rows if row["median"]]
    table = [
        [
            f"{row['name']} {row['notes'].get('version', '')}".strip(),
            number(row["images_per_second"]),
            number(1000 * row["median"]),
            f"{max(row['seconds']) / min(row['seconds']):.2f}",
            number(row["speed_over_spikingjelly"], 2),
            number(row["speed_over_fastest_ann"], 2),
            number(row["accuracy"] and 100 * row["accuracy"], 1, " %"),
            number(100 * row["density"], 0, " %"),
            number(row["peak_mib"], 0),
            number(row["start_seconds"]),
        ]
        for row in ran
    ]
    show(title, COLUMNS, table, rows)


if __name__ == "__main__":
    run(main)
