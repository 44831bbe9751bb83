"""A very small run and what it left behind.

`python small_run.py run RECIPE OUT RESULT` makes three of them, `python small_run.py teacher OUT RESULT` trains a
teacher, by as many processes as the environment says.
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

from spikeclip.config import RunConfig, TeacherTraining, from_dict
from spikeclip.data.shapes import shapes
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.errors import InputError
from spikeclip.train import loop, session
from spikeclip.train import run as run_module
from spikeclip.train.clip import ClipNetwork
from spikeclip.train.session import Interrupted
from spikeclip.train.stages.captions import captioned
from spikeclip.train.teacher import train_teacher

CLASSES = [f"{colour} {shape}" for colour in ("red", "green", "yellow") for shape in ("ring", "bar")]
DIM = 16
TEACHER = TeacherTraining(width=32, layers=1, batch_size=32, epochs=2, vocab_size=320)
MODEL = {"range": 3.0, "image": {"widths": [8, 16, 16]}, "text": {"width": 16, "depth": 1, "num_heads": 2}}


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def with_images(lessons):
    """Give the lessons a teacher of images too."""
    generator = torch.Generator().manual_seed(0)
    shapes = {split: (len(rows), lessons.embed_dim) for split, rows in lessons.text_of.items()}
    images = {
        split: F.normalize(torch.randn(shape, generator=generator), dim=-1) for split, shape in shapes.items()
    }
    return dataclasses.replace(lessons, teacher_images=images)


def run(recipe: dict, out: Path) -> None:
    """Train with a row of the log for each step."""
    gather = run_module.gather_lessons
    run_module.gather_lessons = lambda *given: with_images(gather(*given))
    loop.LOG_EVERY = 1
    run_module.train_run(from_dict(RunConfig, recipe), out, quiet=True, test=False)
    run_module.gather_lessons = gather


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
    session.catch_signals = lambda: contextlib.nullcontext(lambda: next(calls) == 3 and last)
    try:
        run(recipe, out / "stopped")
    except Interrupted:
        said["stopped after"] = next(calls) - 1
    result.write_text(json.dumps(said))


def teacher(out: Path) -> dict:
    """Train a very small teacher for two epochs of five steps, with a row of the log for each."""
    loop.LOG_EVERY, before = 1, loop.LOG_EVERY
    result = train_teacher(shapes("train", 160), shapes("test", 40), out, TEACHER, quiet=True)
    loop.LOG_EVERY = before
    return result


def teacher_at_start() -> dict[str, torch.Tensor]:
    """The weights that the training of `teacher` starts from."""
    tokenizer = Tokenizer.train(captioned(shapes("train", 160)).texts, TEACHER.vocab_size)
    torch.manual_seed(TEACHER.seed)
    return ClipNetwork(TEACHER, 32, tokenizer).clip.state_dict()


if __name__ == "__main__":
    torch.set_num_threads(1)
    kind, *arguments = sys.argv[1:]
    *given, out, result = map(Path, arguments)
    if kind == "run":
        main(json.loads(given[0].read_text()), out, result)
    else:
        result.write_text(json.dumps(teacher(out)))
