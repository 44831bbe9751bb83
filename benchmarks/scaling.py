"""What the engine's time depends on: time steps and density.

python -m benchmarks.scaling steps                                  T = 1, 2, 4, 8 at one total number of spikes
python -m benchmarks.scaling density --models runs/rate-* --relu runs/relu --figure results/density.png
python -m benchmarks.scaling twin                                   random weights, against the int8 twin
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import finish, number, options, run, show
from benchmarks.contestants import CONTESTANTS, Job
from benchmarks.figure import density_figure
from benchmarks.machine import Noise
from benchmarks.prepare import Network, normalized, prepare, write_network
from benchmarks.race import Result, race
from benchmarks.untrained import TOWERS, fit_rate, nchw, random_model, write_dense, write_twin
from spikeclip.data.sources import load_pictures
from spikeclip.errors import InputError
from spikeclip.neurons import record

ENGINE = {
    "auto": "I-LIF, engine int8",
    "events": "I-LIF, engine int8 events",
    "dense": "I-LIF, engine int8 dense",
}
STEPS = {
    "engine int8": "LIF, engine int8",
    "engine fp32": "LIF, engine fp32",
    "PyTorch fp32": "LIF, PyTorch fp32",
}
TWINS = {"twin, OpenVINO int8": "ANN, OpenVINO int8", "twin, ONNX Runtime int8": "ANN, ONNX Runtime int8"}


def steps() -> None:
    """Race LIF towers of growing T that fire the same total number of spikes."""
    parser = options("Engine time over T at a fixed total number of spikes.", [16])
    parser.add_argument("--model", default="spikeclip-base", help="preset whose image tower runs")
    parser.add_argument("--T", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of time steps")
    parser.add_argument("--spikes", type=float, default=0.4, help="spikes per neuron, summed over T")
    arguments = parser.parse_args(sys.argv[2:])
    noise, passes = Noise(arguments.threads), []
    with tempfile.TemporaryDirectory(prefix="spikeclip-bench-") as scratch:
        fired = {T: write_calibrated(T, arguments, Path(scratch) / str(T)) for T in arguments.T}
        for batch in arguments.batch:
            jobs = {
                f"{label}, T={T}": Job(name, f"{scratch}/{T}", batch, arguments.threads)
                for label, name in STEPS.items()
                for T in arguments.T
                if not arguments.only or arguments.only in label
            }
            timing = {"repeats": arguments.repeats, "seconds": arguments.seconds}
            results = race(jobs, noise, embed=False, **timing)
            rows = growth(results, fired)
            print_growth(f"{arguments.model}, batch {batch}, {arguments.threads} threads", rows)
            passes.append({"batch": batch, "rows": rows})
    finish(arguments, {"passes": passes}, noise.summary())


def write_calibrated(T: int, arguments: argparse.Namespace, folder: Path) -> float:
    """Write a LIF tower with random weights that fires `arguments.spikes` per neuron; returns what it does fire.

    The weights are not the point, the events are: every layer fires spikes / T in each step.
    """
    model = random_model(arguments.model, neuron="lif", T=T)
    pictures = load_pictures(arguments.data, "test", model.config.image.format, limit=max(arguments.batch))
    images_NHWC = normalized(model.config.image, pictures.images)
    fit_rate(model, nchw(images_NHWC), arguments.spikes / T)
    write_network(model, images_NHWC, folder)
    with torch.no_grad(), record(model.image) as rates:
        model.image(nchw(images_NHWC))
    return T * torch.stack(list(rates.values())).mean().item()


def growth(results: dict[str, Result], fired: dict[int, float]) -> list[dict[str, Any]]:
    """Return the rows of the record: each result with its time over that of the same runtime at the least T."""
    rows, first = [], {}
    for name, result in results.items():
        label, T = name.split(", T=")
        least = first.setdefault(label, result.median)
        row = {"name": name, **result.record(), "T": int(T), "spikes": fired[int(T)]}
        row["time_over_least_T"] = result.median / least if result.median and least else None
        rows.append(row)
    return rows


def print_growth(title: str, rows: list[dict[str, Any]]) -> None:
    """Print one race over T."""
    table = [
        [
            row["name"],
            number(1000 * row["median"]),
            number(row["time_over_least_T"], 2),
            number(row["spikes"], 2),
        ]
        for row in rows
        if row["median"]
    ]
    show(title, ["contestant", "ms", "x time at least T", "spikes per neuron"], table, rows)


def density() -> None:
    """Race I-LIF networks of different densities, run by events, dense and as the engine chooses."""
    parser = options("Images/s and accuracy over density.", [16])
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="saved I-LIF models or runs")
    parser.add_argument("--relu", type=Path, help="saved model or run: the ANN twin")
    parser.add_argument("--pictures", type=int, default=1000, help="test pictures for the accuracy")
    parser.add_argument("--figure", type=Path, help="file for the figure (PNG)")
    arguments = parser.parse_args(sys.argv[2:])
    noise, passes = Noise(arguments.threads), []
    with tempfile.TemporaryDirectory(prefix="spikeclip-bench-") as scratch:
        sources = {str(path): path for path in [*arguments.models, *filter(None, [arguments.relu])]}
        networks = {
            name: prepare(path, arguments.data, arguments.pictures, arguments.batch, Path(scratch) / str(i))
            for i, (name, path) in enumerate(sources.items())
        }
        for batch in arguments.batch:
            jobs = density_jobs(networks, batch, arguments)
            timing = {"repeats": arguments.repeats, "seconds": arguments.seconds}
            rows = over_density(race(jobs, noise, **timing), networks)
            print_density(f"batch {batch}, {arguments.threads} threads", rows)
            passes.append({"batch": batch, "rows": rows})
    if arguments.figure:
        density_figure(passes[-1]["rows"], f"batch {arguments.batch[-1]}", arguments.figure)
    facts = {name: network.facts for name, network in networks.items()}
    finish(arguments, {"networks": facts, "passes": passes}, noise.summary())


def density_jobs(networks: dict[str, Network], batch: int, arguments: argparse.Namespace) -> dict[str, Job]:
    """Return a job for each I-LIF network and mode, and for each runtime of the ReLU network."""
    jobs = {}
    for source, network in networks.items():
        twin = network.facts["neuron"]["kind"] == "relu"
        names = {n: n for n, c in CONTESTANTS.items() if c.weights == "relu"} if twin else ENGINE
        for label, name in names.items():
            jobs[f"{source}: {label}"] = Job(name, str(network.folder), batch, arguments.threads)
    return {name: job for name, job in jobs.items() if not arguments.only or arguments.only in name}


def over_density(results: dict[str, Result], networks: dict[str, Network]) -> list[dict[str, Any]]:
    """Return the rows of the record: each result with its mode or runtime, accuracy and density."""
    rows = []
    for name, result in results.items():
        source, label = name.rsplit(": ", 1)
        network = networks[source]
        row = {"name": name, "source": source, "label": label, **result.record()}
        row["accuracy"] = network.accuracy(result.embeddings) if result.embeddings else None
        row["density"] = network.facts["spikes"]["mean_density"]
        row["ann"] = network.facts["neuron"]["kind"] == "relu"
        rows.append(row)
    return rows


def print_density(title: str, rows: list[dict[str, Any]]) -> None:
    """Print one race over density."""
    table = [
        [
            row["name"],
            number(100 * row["density"], 1, " %"),
            number(row["images_per_second"]),
            number(row["accuracy"] and 100 * row["accuracy"], 1, " %"),
        ]
        for row in rows
        if row["median"]
    ]
    show(title, ["contestant", "density", "images/s", "accuracy"], table, rows)


def twin() -> None:
    """Race I-LIF towers with random weights, at several densities, against their ordinary twins in int8."""
    parser = options(
        "Images/s of the engine, as it chooses, over those of the ordinary twin in int8.", [16, 1]
    )
    parser.set_defaults(repeats=5, seconds=0.2)
    towers = list(TOWERS)
    parser.add_argument("--towers", nargs="+", choices=towers, default=towers, help="image towers")
    parser.add_argument(
        "--density",
        type=float,
        nargs="+",
        default=[50, 30, 20, 12, 5],
        help="shares of activations that are not zero, %%",
    )
    arguments = parser.parse_args(sys.argv[2:])
    for wanted in arguments.density:
        if not 0 < wanted < 100:
            raise InputError(f"--density is in %, above 0 and below 100, got {wanted:g}")
    noise, passes = Noise(arguments.threads), []
    for tower in arguments.towers:
        with tempfile.TemporaryDirectory(prefix="spikeclip-bench-") as scratch:
            write_twin(tower, arguments.data, arguments.batch, Path(scratch) / "twin")
            made = {
                f"engine int8, {wanted:g} %": write_dense(
                    tower, wanted / 100, arguments.data, Path(scratch) / f"engine int8, {wanted:g} %"
                )
                for wanted in arguments.density
            }
            for batch in arguments.batch:
                rows = over_twin(race_twins(scratch, made, batch, noise, arguments), made)
                print_twins(f"{tower}, batch {batch}, {arguments.threads} threads", rows)
                passes.append({"tower": tower, "batch": batch, "rows": rows})
    finish(arguments, {"passes": passes}, noise.summary())


def race_twins(
    scratch: str, made: Iterable[str], batch: int, noise: Noise, arguments: argparse.Namespace
) -> dict[str, Result]:
    """Race the engine on the networks `made` and the twin in every runtime, all in folders of `scratch`."""
    contestants = {name: ("twin", contestant) for name, contestant in TWINS.items()}
    contestants |= {name: (name, ENGINE["auto"]) for name in made}
    jobs = {
        name: Job(contestant, f"{scratch}/{folder}", batch, arguments.threads)
        for name, (folder, contestant) in contestants.items()
        if name in TWINS or not arguments.only or arguments.only in name
    }
    return race(
        jobs,
        noise,
        repeats=arguments.repeats,
        seconds=arguments.seconds,
        environment={
            "HOME": scratch
        },  # where the engine finds no choice of an earlier run, and makes its own
        embed=False,
        without=["explain"],  # which would take as long as all the rest
    )


def over_twin(results: dict[str, Result], made: dict[str, float]) -> list[dict[str, Any]]:
    """Return the rows of the record: each result with its density and its speed over the faster twin's."""
    twins = [result.median for name, result in results.items() if name in TWINS and result.median]
    rows = []
    for name, result in results.items():
        ratio = min(twins) / result.median if twins and result.median else None
        rows.append(
            {"name": name, **result.record(), "density": made.get(name), "speed_over_faster_twin": ratio}
        )
    return rows


def print_twins(title: str, rows: list[dict[str, Any]]) -> None:
    """Print one race against the twins."""
    table = [
        [
            row["name"],
            number(row["density"] and 100 * row["density"], 1, " %"),
            number(row["images_per_second"], 0),
            f"{max(row['seconds']) / min(row['seconds']):.2f}",
            number(row["speed_over_faster_twin"], 2),
            row["notes"].get("runs", "-"),
        ]
        for row in rows
        if row["median"]
    ]
    show(title, ["contestant", "density", "images/s", "spread", "x faster twin", "runs"], table, rows)


def main() -> None:
    """Run the benchmark that the first argument names."""
    kinds = {"steps": steps, "density": density, "twin": twin}
    if len(sys.argv) < 2 or sys.argv[1] not in kinds:
        raise InputError(
            "say which: python -m benchmarks.scaling steps | density | twin (and --help for its options)"
        )
    kinds[sys.argv[1]]()


if __name__ == "__main__":
    run(main)
