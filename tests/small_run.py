"""A very small run and what it left behind.

`python small_run.py RECIPE OUT RESULT` makes three of them, by as many processes as the environment says.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from spikeclip.config import RunConfig, from_dict
from spikeclip.errors import InputError
from spikeclip.train import loop
from spikeclip.train import run as run_module
from spikeclip.train.loop import Interrupted

CLASSES = [f"{colour} {shape}" for colour in ("red", "green", "yellow") for shape in ("ring", "bar")]
DIM = 16
MODEL = {"range": 3.0, "image": {"widths": [8, 16, 16]}, "text": {"width": 16, "depth": 1, "num_heads": 2}}


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def with_images(material):
    """Give the material a teacher of images too."""
    generator = torch.Generator().manual_seed(0)
    shapes = {split: (len(part), material.embed_dim) for split, part in material.pictures.items()}
    images = {
        split: F.normalize(torch.randn(shape, generator=generator), dim=-1) for split, shape in shapes.items()
    }
    return dataclasses.replace(material, teacher_images=images)


def run(recipe: dict, out: Path) -> None:
    """Train with a row of the log for each step."""
    gather = run_module.gather_material
    run_module.gather_material = lambda *given: with_images(gather(*given))
    loop.LOG_EVERY = 1
    run_module.train_run(from_dict(RunConfig, recipe), out, quiet=True, test=False)
    run_module.gather_material = gather


def main(recipe: dict, out: Path, result: Path) -> None:
    """Train; train on a batch that does not divide; and be interrupted in the last process alone."""
    run(recipe, out / "whole")
    said = {}
    uneven = {**recipe, "stages": [{**recipe["stages"][0], "batch_size": 15}]}
    try:
        run(uneven, out / "uneven")
    except InputError as error:
        said["uneven"] = str(error)
    last = os.environ["RANK"] == str(int(os.environ["WORLD_SIZE"]) - 1)
    calls = itertools.count(1)
    run_module.catch_signals = lambda: contextlib.nullcontext(lambda: next(calls) == 3 and last)
    try:
        run(recipe, out / "stopped")
    except Interrupted:
        said["stopped after"] = next(calls) - 1
    result.write_text(json.dumps(said))


if __name__ == "__main__":
    torch.set_num_threads(1)
    recipe, out, result = map(Path, sys.argv[1:])
    main(json.loads(recipe.read_text()), out, result)
