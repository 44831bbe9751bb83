"""`spikeclip train lite0`: the shipped network, at 64 pixels, distilled for ten steps from a random Lite0."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import spikeclip
from spikeclip.data.prompts import load_prompts
from spikeclip.model import SpikeCLIP
from spikeclip.neurons import Neuron
from spikeclip.towers.norm import BatchNorm
from tests.public_weights import write_lite0

DIM = 512


@pytest.fixture(scope="module")
def start(folder) -> SpikeCLIP:
    """In the folder of the processes: the model at 64 pixels, a teacher, pictures of two classes; the model."""
    shipped = spikeclip.from_pretrained("spikeclip-lite0")
    image = dataclasses.replace(shipped.config.image, image_size=64)
    model = SpikeCLIP(dataclasses.replace(shipped.config, image=image), shipped.tokenizer, shipped.taught)
    model.load_state_dict(shipped.state_dict())
    model.image.blocks[1].spike.range_C.mul_(1.5)  # so that those of the graphs, all 1, are not all there is
    model.eval().save_pretrained(folder / "small")
    write_lite0(folder / "lite0.pth")
    rng, ids = np.random.default_rng(0), load_prompts("imagenet1k").ids
    np.savez(folder / "classes.npz", wnid=ids, name=ids, prototype=rng.standard_normal((1000, DIM)))
    np.savez(folder / "nouns.npz", names=["cat", "dog", "car"], embeddings=rng.standard_normal((3, DIM)))
    weight = rng.standard_normal((DIM, 1280)) / 1000
    np.savez(folder / "readout.npz", weight=weight, bias=np.zeros(DIM), centre=np.zeros(DIM))
    for split, count in (("train", 10), ("val", 1)):
        for name in ("cat", "dog"):
            (folder / "photographs" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "photographs" / split / name / f"{i}.png")
    return model


def test_ten_steps_killed_and_resumed_leave_levels_ranges_and_statistics(folder, start):
    changes = ("model.pretrained=small", "data.source=./photographs", "teacher.readout=readout.npz")
    changes += (
        "teacher.path=[lite0.pth,classes.npz,nouns.npz]",
        "data.cache=cache",
        "checkpoint_minutes=0.02",
    )
    changes += ("stages.0.batch_size=2", "stages.0.epochs=1", "vocab_size=300")
    command = [sys.executable, "-m", "spikeclip", "train", "lite0", *changes, "--out", "distilled"]
    out, environment = folder / "distilled", {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    while not (out / "checkpoint.pt").is_file() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    error = process.communicate()[1]
    assert process.returncode == -9, error
    done = subprocess.run([*command, "--resume"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    (stage,) = json.loads((out / "results.json").read_text())["stages"]
    assert stage["steps"] == 10
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row[key] for row in lines for key in ("loss", "train_loss") if key in row]
    assert len(losses) == 2  # a row of the log, before the kill, and one of the epoch
    assert all(map(math.isfinite, losses))
    assert {"cosine", "texts", "rate"} <= lines[0].keys()

    model = spikeclip.from_pretrained(out)
    assert model.config == start.config
    before, after = start.state_dict(), model.state_dict()
    fixed = [
        f"{name}.{kind}"
        for name, module in start.image.named_modules(prefix="image")
        for kind in ("range_C", "running_mean", "running_var")
        if isinstance(module, Neuron if kind == "range_C" else BatchNorm)
    ]
    assert len(fixed) == 3 * 49
    assert all(torch.equal(before[name], after[name]) for name in fixed)
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name.startswith("text."))
    learned = dict(start.image.named_parameters(prefix="image"))
    learned.pop("image.readout.slope")  # of one time step it changes nothing
    for name, parameter in learned.items():
        moved = (after[name] - parameter).square().mean().sqrt() / parameter.square().mean().sqrt()
        assert 0 < moved < 10 * 3e-4, name
