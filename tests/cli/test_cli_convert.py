"""`spikeclip convert` as a process, on the real network's shape with random weights and small pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from public_weights import public_state

from spikeclip.config import model_config
from spikeclip.convert.saved import load_conversion
from spikeclip.towers import image_tower
from spikeclip.towers.network import as_network

QUICK = ("--image-size", "33", "--limit", "12", "--held-out", "4", "--batch-size", "4")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with pictures and weights.pth, as a package carries them."""
    root = tmp_path_factory.mktemp("convert")
    rng = np.random.default_rng(0)
    (root / "pictures" / "any").mkdir(parents=True)
    for i in range(16):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(
            root / "pictures" / "any" / f"{i}.png"
        )
    torch.manual_seed(0)
    config = model_config("spikeclip-lite0", neuron="relu", embed_dim=7, image_size=33)
    tower = image_tower(config.image, config.neuron, 7)
    torch.save(public_state(as_network("lite0", config, tower)), root / "weights.pth")
    return root


def test_a_tower_and_its_twin(process, made, tmp_path):
    out = tmp_path / "tower"
    given = (str(made / "weights.pth"), "--pictures", str(made / "pictures"), *QUICK)
    levels = ("--D", "4", "--place", "*.spike=6", "--first-D", "16,12", "--steps", "2", "--distil-steps", "1")
    code, said, told = process("convert", *given, *levels, "--out", str(out))
    assert code == 0, told
    assert said == f"tower: {out}\n"
    assert "stem and block 0: error" in told
    assert "head: error" in told
    assert told.count("of the answers, cosine of features") == 4
    done = load_conversion(out)
    assert (done.config.embed_dim, done.config.neuron.D, done.config.neuron.first_D[:3]) == (
        7,
        4,
        (16, 12, 6),
    )
    record = json.loads((out / "conversion.json").read_text())
    assert (record["network"], record["pictures"], record["held_out"]) == ("efficientnet-lite0", 12, 4)
    assert len(record["errors"]) == 17
    levels = record["levels"]
    assert (levels["blocks.1.filter_spike"], levels["blocks.2.filter_spike"], levels["spike"]) == (8, 4, 4)

    code, _, told = process("convert", *given, "--out", str(out))
    assert (code, told) == (1, f"Error: {out} holds a converted tower: --overwrite replaces it\n")
    code, _, told = process("convert", *given, "--neuron", "relu", "--overwrite", "--out", str(out))
    assert code == 0, told
    assert load_conversion(out).record["agreement"]["ordinary"]["top1"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tower"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("efficientnet-lite9",), "unknown network 'efficientnet-lite9'; did you mean 'efficientnet-lite"),
        (("weights.pth", "--D", "17"), "D must be a whole number between 2 and 16, got 17"),
        (
            ("weights.pth", "--first-D", "4,x"),
            "--first-D expects whole numbers with commas, such as 16,16; got '4,x'",
        ),
        (
            ("weights.pth", "--place", "spike"),
            "--place expects PATTERN=D, such as blocks.0.*=16; got 'spike'",
        ),
        (("weights.pth", "--neuron", "lif"), "unknown neuron of a conversion 'lif'; "),
        (("pictures/any/0.png",), "pictures/any/0.png is not a readable file of weights ("),
    ],
)
def test_one_line_for_a_mistake(process, made, tmp_path, arguments, message):
    name, *options = arguments
    name = str(made / name) if (made / name).exists() else name
    code, _, told = process(
        "convert",
        name,
        *options,
        "--pictures",
        str(made / "pictures"),
        *QUICK,
        "--out",
        str(tmp_path / "out"),
    )
    assert code == 1
    assert told.startswith("Error: ")
    assert message in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())
