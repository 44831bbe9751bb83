"""The readout of an image network by the command line."""

import numpy as np
import pytest
from PIL import Image

from spikeclip.data.prompts import load_prompts
from tests.public_weights import write_lite0


@pytest.fixture(scope="module")
def lesson(folder):
    """In the folder of the processes: a network's weights, a table, and pictures of two classes."""
    write_lite0(folder / "lite0.pth")
    rng, ids = np.random.default_rng(0), load_prompts("imagenet1k").ids
    rows = rng.standard_normal((1000, 16))
    np.savez(folder / "classes.npz", wnid=ids, name=ids, prototype=rows)
    for name in ("cat", "dog"):
        (folder / "animals" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "animals" / name / f"{i}.png")
    return folder


def test_a_readout_is_learned_and_written(process, lesson):
    command = (
        "teacher",
        "readout",
        "lite0.pth",
        "--table",
        "classes.npz",
        "--data",
        "./animals",
        "--cache",
        "cache",
    )
    code, out, err = process(*command, "--out", "readout.npz")
    assert code == 0, err
    assert "by the network" in out
    with np.load(lesson / "readout.npz") as written:
        assert {key: value.shape for key, value in written.items()} == {
            "weight": (16, 1280),
            "bias": (16,),
            "centre": (16,),
            "teacher": (),
        }
    code, _, err = process(*command, "--out", "readout.txt")
    assert code
    assert err.strip() == "Error: --out names an .npz file; got readout.txt"
