"""What `spikeclip train` makes of the GPU: its fine-tuning of random pictures against the bare step.

Pictures, lessons, model, stage and loop are those of a run; only what is read from a disk is made up.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from benchmarks.gpu.measure import Measurement, Size, device, timed
from spikeclip.config import RunConfig, model_config
from spikeclip.data.pictures import Pictures
from spikeclip.model import SpikeCLIP
from spikeclip.train.build import build_model
from spikeclip.train.feed import Feed
from spikeclip.train.lessons import gather_lessons
from spikeclip.train.loop import run_stage
from spikeclip.train.network import StageNetwork
from spikeclip.train.optimizer import make_optimizers
from spikeclip.train.pictures import RunPictures
from spikeclip.train.precision import resolve_compile, resolve_precision
from spikeclip.train.recipe import load_recipe
from spikeclip.train.report import Report
from spikeclip.train.session import open_session
from spikeclip.train.stages import make_stage
from spikeclip.train.stages.stage import Stage

RECIPE = "recipes/cifar10.yaml"
CLASSES = [f"thing {i}" for i in range(10)]
VALIDATION = 0.05


class _Clock(Report):
    """A log that notes when each epoch of the stage ended."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, quiet=True)
        self.ends: list[float] = []

    def epoch(self, epoch: int, step: int, scores: dict[str, float], model: Any) -> None:
        super().epoch(epoch, step, scores, model)
        self.ends.append(time.perf_counter())


def command(size: Size) -> dict[str, Any]:
    """Return the `pictures_per_second` of the stage after its first epoch, validation and log included."""
    with tempfile.TemporaryDirectory(prefix="spikeclip-bench-") as scratch:
        folder = Path(scratch)
        config, model, stage = _prepared(size, folder)
        report, accelerator = _Clock(folder), Accelerator()
        precision = resolve_precision(config.precision, accelerator.device.type)
        opened = open_session(accelerator, report, precision, folder / "checkpoint", 60, config.feed)
        with opened as session:
            run_stage(model, stage, session, index=0, save=lambda state: None)
    seconds = report.ends[-1] - report.ends[0]
    pictures = stage.samples // stage.config.batch_size * stage.config.batch_size
    return {"pictures_per_second": pictures * (len(report.ends) - 1) / seconds, "epochs": len(report.ends)}


def bare(size: Size) -> dict[str, Any]:
    """The same forward, loss, backward and optimisers with one batch again and again, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="spikeclip-bench-") as scratch:
        config, model, stage = _prepared(size, Path(scratch))
    feed = Feed(stage, device(), config.feed)
    inputs, targets = next(feed.batches(itertools.islice(feed.steps.after(0), 1)))
    model.text.requires_grad_(False)
    network = StageNetwork(model, stage, resolve_precision(config.precision, device().type))
    optimizers = make_optimizers(network, stage.config.optimizer)
    model.train()

    def step() -> None:
        loss = torch.stack(list(network(inputs, targets).values())).sum()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    found = timed(step, size)
    return {**found, "pictures_per_second": feed.steps.batch_size / found["seconds"]}


def _prepared(size: Size, folder: Path) -> tuple[RunConfig, SpikeCLIP, Stage]:
    """Return the recipe with its last stage alone, a model of it on the device, and that stage."""
    random = np.random.default_rng(0)
    dim = model_config("spikeclip-tiny").embed_dim
    texts = [f"a {name}" for name in CLASSES]
    np.savez(folder / "table.npz", embeddings=random.standard_normal((len(texts), dim)), texts=texts)
    recipe = load_recipe(
        Path(RECIPE),
        ["stages.align_text=null", "stages.align_image=null", f"teacher.path={folder / 'table.npz'}"]
        + [
            f"data.cache={folder}",
            "data.classnames={}",
            f"stages.finetune.epochs={size.epochs}",
            "vocab_size=320",
        ]
        + [f"model.image={dict(changes)}" for changes in [size.image.get("spikeclip-tiny")] if changes]
        + [f"stages.finetune.batch_size={min(500, size.pictures // 4)}"],
    )
    parts = {
        split: _pictures(split, max(1, count), random)
        for split, count in (("train", size.pictures), ("val", round(VALIDATION * size.pictures)))
    }
    labels = {split: torch.from_numpy(part.labels) for split, part in parts.items()}
    pictures = RunPictures({split: [part] for split, part in parts.items()}, parts, labels, CLASSES)
    lessons = gather_lessons(recipe, pictures, str(device()))
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.model, pictures, lessons).to(device())
    if resolve_compile(recipe.compile, device().type):
        model.image.compile(fullgraph=True)
    return recipe, model, make_stage(recipe.stages[-1], 0, model.eval(), pictures, lessons)


def _pictures(split: str, count: int, random: np.random.Generator) -> Pictures:
    images_NHWC = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels_N = np.arange(count) % len(CLASSES)
    ids = [f"{split}/{i}" for i in range(count)]
    return Pictures("random", split, images_NHWC, ids, f"random {split}", labels_N, list(CLASSES))  # type: ignore[arg-type]


FIRST = {
    "command: spikeclip-tiny fine-tuning": Measurement(command, compiles=True),
    "command: its bare step": Measurement(bare, compiles=True),
}
REST: dict[str, Measurement] = {}
