"""Speed of a shipped model on photographs: against its ordinary twin in int8, and a ViT-B/32.

python -m benchmarks.photographs --out results/lite0/speed.json
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.command import finish, number, options, run, show
from benchmarks.contestants import Contestant, Embed, Job, onnxruntime, openvino
from spikeclip.defaults import MODEL

NETWORK = "efficientnet-lite0"
CALIBRATION = 32
"""Photographs that set the ranges of the quantised twin."""
LABELS = "dog,flower,car,pizza,military uniform"
TABLE = "benchmarks.photographs"
ENGINE, VIT = "engine int8", "ViT-B/32, ONNX Runtime fp32"
COLUMNS = [
    "contestant", "images/s", "ms", "median ms", "x fastest twin", "median", "x ViT", "peak MiB", "start s",
]  # fmt: skip


def engine(job: Job) -> tuple[Embed, dict[str, Any]]:
    """The shipped graph on the engine, from pixels; needs no PyTorch."""
    from spikeclip.engine import Engine
    from spikeclip.graph import load_graph

    run = Engine(load_graph(Path(job.folder) / "graph"), threads=job.threads)
    return run, {"openvino": run.whole is not None}


def exported(job: Job, name: str, start: Callable[[str, int], Embed]) -> tuple[Embed, dict[str, Any]]:
    """A network in an ONNX file, from normalised pictures (B, 3, H, W)."""
    file = Path(job.folder) / f"{name}-{job.batch}.onnx"
    return start(str(file), job.threads), {}


_OPENVINO = partial(openvino, precision="int8")
CONTESTANTS: dict[str, Contestant] = {
    ENGINE: Contestant("ilif", engine),
    "twin, ONNX Runtime int8": Contestant("relu", partial(exported, name="int8", start=onnxruntime)),
    "twin, OpenVINO int8": Contestant("relu", partial(exported, name="int8", start=_OPENVINO)),
    VIT: Contestant("relu", partial(exported, name="vit", start=onnxruntime)),
}


def main() -> None:
    """Read the options, race at every batch size, time the command line, print and write."""
    parser = options("Speed of a shipped model on photographs.", [1, 16])
    parser.set_defaults(data="../shared/data/imagenet_sample", repeats=30, seconds=0.1)
    parser.add_argument("--model", default=MODEL, help="shipped model")
    parser.add_argument("--starts", type=int, default=5, help="starts of the command line that are timed")
    arguments = parser.parse_args()
    from benchmarks.inference import units
    from benchmarks.machine import Noise
    from benchmarks.race import race

    noise, passes = Noise(arguments.threads), []
    with tempfile.TemporaryDirectory(prefix="spikeclip-bench-") as scratch:
        picture = prepare(arguments.model, arguments.data, arguments.batch, Path(scratch))
        for amx, switches in units():
            for batch in arguments.batch:
                jobs = {
                    name: Job(name, str(_folder(Path(scratch), name)), batch, arguments.threads, TABLE)
                    for name in CONTESTANTS
                    if not arguments.only or arguments.only in name
                }
                results = race(
                    jobs, noise, repeats=arguments.repeats, seconds=arguments.seconds, environment=switches,
                    embed=False,
                )  # fmt: skip
                rows = compare({name: result.record() for name, result in results.items()})
                print_rows(f"batch {batch}, {arguments.threads} threads{amx}", rows)
                passes.append({"batch": batch, "switches": switches, "rows": rows})
        starts = [first_answer(arguments.model, picture) for _ in range(arguments.starts + 1)][1:]
    if starts:
        least, middle = min(starts), median(starts)
        print(
            f"spikeclip classify, the packages of [runtime]: {least:.2f} s to the answer, median {middle:.2f} s"
        )
    finish(
        arguments,
        {"model": arguments.model, "twin": NETWORK, "passes": passes, "start_to_answer": starts},
        noise.summary(),
    )


def prepare(model: str, data: str, batches: list[int], out: Path) -> Path:
    """Write what the contestants run and read into folders of `out`; return the file of a photograph.

    The twin is the ordinary network with the readout of the shipped one. Raises `InputError`.
    """
    from benchmarks.machine import has_onnx_runtime
    from spikeclip.errors import missing_extra

    if not has_onnx_runtime():
        raise missing_extra("onnxruntime", "onnx")
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from PIL import Image

    from benchmarks.exported import export_graph, export_vit
    from benchmarks.prepare import quantize
    from spikeclip.data.sources import load_pictures
    from spikeclip.graph import save_graph
    from spikeclip.graph.inputs import normalized
    from spikeclip.graph.lower import lower
    from spikeclip.graph.ops import Graph
    from spikeclip.graph.saved import load_graphs
    from spikeclip.pretrained.resolve import resolve
    from spikeclip.towers.network import read_network

    graph = load_graphs(resolve(model).folder).image
    network = read_network(NETWORK, graph.input.shape[0])
    format = network.config.image.format
    pixels_NHWC = np.array(load_pictures(data, "train", format, limit=max(CALIBRATION, *batches)).images)
    sample_NCHW = np.ascontiguousarray(normalized(graph.input, pixels_NHWC).transpose(0, 3, 1, 2))
    ours, ordinary = _folder(out, ENGINE), _folder(out, VIT)
    for folder, pictures in ((ours, pixels_NHWC), (ordinary, sample_NCHW)):
        folder.mkdir()
        np.save(folder / "pictures.npy", pictures[: max(batches)])
    save_graph(graph, ours / "graph", int8=True)
    twin = Graph([*lower(network.tower, network.config.image).ops[:-1], graph.ops[-1]])
    for batch in batches:
        exact, prepared = ordinary / "fp32.onnx", ordinary / "prepared.onnx"
        export_graph(twin, batch, exact)
        quant_pre_process(exact, prepared)
        quantize(prepared, ordinary / f"int8-{batch}.onnx", sample_NCHW, batch)
        export_vit(format.image_size, batch, ordinary / f"vit-{batch}.onnx")
    Image.fromarray(pixels_NHWC[0]).save(out / "photograph.jpg")
    return out / "photograph.jpg"


def _folder(out: Path, name: str) -> Path:
    return out / CONTESTANTS[name].weights


def first_answer(model: str, picture: Path) -> float:
    """Return the seconds from the start of `spikeclip classify` to its end, with the packages of `[runtime]` alone.

    PyTorch cannot be imported, nor can SciPy, which numba reads where it is installed.
    """
    code = (
        "import runpy, sys; sys.modules.update(torch=None, scipy=None);"
        "runpy.run_module('spikeclip', run_name='__main__')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = [sys.executable, "-c", code, "classify", str(picture), "--model", model, "--labels", LABELS]
    start = time.perf_counter()
    subprocess.run(process, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def compare(results: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the record: each result with how many times as fast it is as the fastest twin and the ViT.

    From the fastest rounds, which other work on the machine disturbs least, and from the medians.
    """

    def fastest(statistic: Callable[[list[float]], float], names: list[str]) -> float | None:
        return min(
            (statistic(results[name]["seconds"]) for name in names if results[name]["seconds"]), default=None
        )

    twins = [name for name in results if name.startswith("twin")]
    rows = []
    for name, result in results.items():
        row = {"name": name, **result}
        for label, statistic in (("fastest", min), ("median", median)):
            own = fastest(statistic, [name])
            for against, names in (("twin", twins), ("vit", [VIT] if VIT in results else [])):
                other = fastest(statistic, names)
                row[f"{label}_over_{against}"] = other / own if own and other else None
        row["least"] = fastest(min, [name])
        rows.append(row)
    return rows


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Print one race as a table; who could not run is named below it."""
    table = [
        [
            row["name"],
            number(row["job"]["batch"] / row["least"]),
            number(1000 * row["least"], 2),
            number(1000 * row["median"], 2),
            number(row["fastest_over_twin"], 2),
            number(row["median_over_twin"], 2),
            number(row["fastest_over_vit"], 2),
            number(row["peak_mib"], 0),
            number(row["start_seconds"]),
        ]
        for row in rows
        if row["median"]
    ]
    show(title, COLUMNS, table, rows)


if __name__ == "__main__":
    run(main)
