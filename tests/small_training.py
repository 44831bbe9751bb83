"""A small folder of pictures, a table that teaches their names, and runs of a very small model on them."""

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
from spikeclip.train.material import gather_material
from spikeclip.train.run import build_model, train_run


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
    """Load pictures once for all tests: drawing the built-in ones takes two seconds."""
    draw = functools.cache(load_pictures)

    def remembered(source, split, format, *, cache, limit=None, classnames=None):
        load = load_pictures if classnames else draw
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
    """Return (config, material, model) of a run that has not started."""

    def make(*stages, **changes):
        made = config(*stages, **changes)
        material = gather_material(made, 32)
        torch.manual_seed(made.seed)
        return made, material, build_model(made, material)

    return make


@pytest.fixture
def run(config, tmp_path):
    """Train and return (result, folder); `out` names the folder."""

    def make(*stages, out="run", resume=False, test=False, **changes):
        made = config(*stages, **changes)
        return train_run(made, tmp_path / out, resume=resume, quiet=True, test=test), tmp_path / out

    return make
