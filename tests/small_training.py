"""A small folder of pictures, a table that teaches their names, and runs of a very small model on them."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import CLASSES, DIM, MODEL

from spikeclip.config import ImageFormat, RunConfig, from_dict
from spikeclip.data import load_pictures, mixture, sources
from spikeclip.data.shapes import COLOURS, PAIRS, SHAPES
from spikeclip.model import SpikeCLIP
from spikeclip.train.build import build_model
from spikeclip.train.lessons import Lessons, gather_lessons
from spikeclip.train.pictures import RunPictures, load_run_pictures
from spikeclip.train.run import train_run
from spikeclip.train.stages import make_stage
from spikeclip.train.stages.stage import Stage


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run that has not started."""

    config: RunConfig
    pictures: RunPictures
    lessons: Lessons
    model: SpikeCLIP

    def stage(self, index: int = 0, **settings) -> Stage:
        """Make a stage of the run, with other settings."""
        config = dataclasses.replace(self.config.stages[index], **settings)
        return make_stage(config, self.config.seed + index, self.model, self.pictures, self.lessons)

    def replace(self, **changes) -> "Prepared":
        return dataclasses.replace(self, **changes)


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """`pictures` (train: 30 of each class, test: 10), `table.npz` and an empty `cache`."""
    root = tmp_path_factory.mktemp("train")
    drawn = load_pictures("shapes", "train", ImageFormat(32), limit=2500)
    for name in CLASSES:
        rows = np.flatnonzero(drawn.labels == PAIRS.index(name))[:40]
        for i, row in enumerate(rows):
            folder = root / "pictures" / ("train" if i < 30 else "test") / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn.images[row]).save(folder / f"{i:02}.png")
    words = {word: vector for word, vector in zip([*COLOURS, *SHAPES], np.eye(DIM), strict=True)}
    noise = np.random.default_rng(0).normal(0, 0.1, (len(PAIRS), DIM))
    rows = np.array([sum(words[word] for word in name.split()) for name in PAIRS]) + noise
    np.savez(root / "table.npz", embeddings=rows, texts=[f"a photo of a {name}." for name in PAIRS])
    return root


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small are fastest on one thread, on a busy machine by far."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def pictures_once():
    """Draw the built-in pictures once for all tests, which takes two seconds; others may change in between."""
    draw = functools.cache(load_pictures)

    def remembered(source, split, format, *, cache, limit=None, classnames=None):
        load = draw if source == "shapes" and not classnames else load_pictures
        return load(source, split, format, cache=str(cache), limit=limit, classnames=classnames or None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixture, "load_pictures", remembered)
        patch.setattr(sources, "load_pictures", remembered)  # where load_training finds it
        yield


@pytest.fixture(scope="session")
def recipe(root):
    """Return the plain values of a run: `recipe({"stage": ..., ...}, ..., seed=1, data={...})`."""

    def make(*stages, model=None, data=None, teacher=True, **changes) -> dict:
        stages = [{"epochs": 2, "batch_size": 27, "optimizer": {"lr": 0.01}, **stage} for stage in stages]
        data = {"source": str(root / "pictures"), "cache": str(root / "cache"), **(data or {})}
        if teacher is True:
            teacher = {"path": str(root / "table.npz"), "logit_scale": 10.0}
        model = {**MODEL, **(model or {})}
        common = {"precision": "fp32", "vocab_size": 320}
        return {
            "model": model,
            "data": data,
            "teacher": teacher or {},
            "stages": list(stages),
            **common,
            **changes,
        }

    return make


@pytest.fixture(scope="session")
def config(recipe):
    return lambda *stages, **changes: from_dict(RunConfig, recipe(*stages, **changes))


@pytest.fixture(scope="session")
def prepared(config):
    """Return a run that has not started, with the pictures in a format."""

    def make(*stages, format=ImageFormat(32), **changes):  # noqa: B008
        made = config(*stages, **changes)
        pictures = load_run_pictures(made, format)
        lessons = gather_lessons(made, pictures)
        torch.manual_seed(made.seed)
        return Prepared(made, pictures, lessons, build_model(made.model, pictures, lessons))

    return make


@pytest.fixture
def run(config, tmp_path):
    """Train and return (result, folder); `out` names the folder."""

    def make(*stages, out="run", resume=False, test=False, **changes):
        made = config(*stages, **changes)
        return train_run(made, tmp_path / out, resume=resume, quiet=True, test=test), tmp_path / out

    return make
