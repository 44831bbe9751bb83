"""One training step of our neurons against SpikingJelly's in the same tower: time and peak memory.

python -m benchmarks.training --out results/training.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import finish, name_absent, number, options, run, show
from benchmarks.contestants import Contestant, Embed, Job
from benchmarks.machine import Noise
from benchmarks.prepare import normalized
from benchmarks.race import Result, race
from spikeclip.config import NeuronConfig, model_config, to_dict
from spikeclip.data.sources import load_pictures

PEER = "SpikingJelly LIF T=4, fp32"
CLASSES = 10
COLUMNS = ["contestant", "images/s", "ms", "spread", "x SpikingJelly", "peak MiB", "x its memory"]


def step(
    job: Job,
    neuron: str,
    T: int,
    precision: str = "fp32",
    compiled: bool = False,
    peer: bool = False,
) -> tuple[Embed, dict[str, Any]]:
    """Build a tower with random weights; a call is forward, cross-entropy over classes, backward and AdamW."""
    import torch
    import torch.nn.functional as F

    from benchmarks.peers import OnSpikingJelly
    from spikeclip.config import OptimizerConfig
    from spikeclip.model import read_config
    from spikeclip.towers import image_tower
    from spikeclip.train.optimizer import make_optimizers

    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    config = read_config(Path(job.folder))
    settings = dataclasses.replace(config.neuron, kind=neuron, T=T)
    tower: Any = image_tower(config.image, settings, config.embed_dim)
    tower = (OnSpikingJelly(tower, every_step=False) if peer else tower).train()
    tower = tower.to(memory_format=torch.channels_last)
    if compiled:
        tower.compile(fullgraph=True)
    optimizers = make_optimizers(tower, OptimizerConfig())
    classes_KD = F.normalize(torch.randn(CLASSES, config.embed_dim), dim=-1)
    labels_B = torch.arange(job.batch) % CLASSES

    def call(images_BHWC: np.ndarray) -> np.ndarray:
        images_BCHW = torch.from_numpy(images_BHWC).permute(0, 3, 1, 2)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            made_BD = F.normalize(tower(images_BCHW).float(), dim=-1)
        loss = F.cross_entropy(30 * made_BD @ classes_KD.T, labels_B)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach().numpy()

    return call, {}


_LIF, _ILIF = partial(step, neuron="lif", T=4), partial(step, neuron="ilif", T=1)
CONTESTANTS: dict[str, Contestant] = {
    PEER: Contestant("lif", partial(_LIF, peer=True)),
    "SpikingJelly LIF T=4, bf16": Contestant("lif", partial(_LIF, peer=True, precision="bf16")),
    "LIF T=4, fp32": Contestant("lif", _LIF),
    "LIF T=4, bf16": Contestant("lif", partial(_LIF, precision="bf16")),
    "LIF T=4, bf16 compiled": Contestant("lif", partial(_LIF, precision="bf16", compiled=True)),
    "I-LIF T=1, fp32": Contestant("ilif", _ILIF),
    "I-LIF T=1, bf16": Contestant("ilif", partial(_ILIF, precision="bf16")),
    "I-LIF T=1, bf16 compiled": Contestant("ilif", partial(_ILIF, precision="bf16", compiled=True)),
}


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
                name: Job(name, scratch, batch, arguments.threads, table="benchmarks.training")
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
    pictures = load_pictures(arguments.data, "train", config.image.image_size, limit=max(arguments.batch))
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
    show(title, COLUMNS, table)
    name_absent(rows)


if __name__ == "__main__":
    run(main)
