"""A readout into a teacher's space: what its closed forms promise, and that a tower carries it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeclip.config import model_config
from spikeclip.data import Pictures
from spikeclip.data.prompts import load_prompts
from spikeclip.errors import InputError
from spikeclip.teacher.image import ImageTeacher
from spikeclip.teacher.readout import learn_readout
from spikeclip.teacher.ridge import Lesson, Readout, fit_readout, head_readout
from spikeclip.towers import image_tower
from tests.public_weights import write_lite0

RNG = np.random.default_rng(0)


def test_the_readout_of_a_head_gives_its_logits():
    head = Readout(RNG.standard_normal((6, 9)), RNG.standard_normal(6))
    classes_KD = RNG.standard_normal((6, 12))
    x = RNG.standard_normal((4, 9))
    logits = head(x)
    products = head_readout(head, classes_KD, damping=1e-9)(x) @ (classes_KD - classes_KD.mean(0)).T
    np.testing.assert_allclose(products, logits - logits.mean(1, keepdims=True), atol=1e-5)


def test_many_pictures_win_over_the_prior_and_few_do_not():
    true = Readout(RNG.standard_normal((5, 8)), RNG.standard_normal(5))
    prior = Readout(RNG.standard_normal((5, 8)), np.zeros(5))
    x = RNG.standard_normal((200, 8))
    centre = RNG.standard_normal(5)
    lessons = [Lesson(x[:50], true(x[:50])), Lesson(x[50:], true(x[50:]), 3.0)]
    np.testing.assert_allclose(fit_readout(lessons, prior, centre, 1e-9)(x), true(x) - centre, atol=1e-4)
    firm = fit_readout(lessons, prior, centre, 1e9)
    ratio = firm.weight_DC / prior.weight_DC
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)
    assert ratio[0, 0] > 0
    with pytest.raises(InputError, match="one of its lessons has none"):
        fit_readout([Lesson(x[:0], x[:0, :5])], prior, centre)


def test_a_tower_carries_what_pictures_taught(tmp_path):
    write_lite0(tmp_path / "lite0.pth")
    rows = RNG.standard_normal((1000, 16))
    ids = load_prompts("imagenet1k").ids
    np.savez(
        tmp_path / "t.npz",
        wnid=ids,
        name=ids,
        prototype=rows,
        images=["a", "b"],
        splits=["train", "train"],
        image_embeddings=rows[:2],
    )
    teacher = ImageTeacher(tmp_path / "lite0.pth", [tmp_path / "t.npz"])
    images = RNG.integers(0, 256, (6, 224, 224, 3), dtype=np.uint8)
    pictures = Pictures("set", "train", images, list("abcdef"), "six")
    readout, sets = learn_readout(teacher, [pictures], tmp_path)
    assert [(row["embeddings"], row["pictures"]) for row in sets] == [("stored", 2), ("by the network", 4)]
    config = model_config("spikeclip-lite0", neuron="relu", embed_dim=16)
    tower = image_tower(config.image, config.neuron, 16).eval()
    state = teacher.network.state_dict() | {k: v for k, v in tower.state_dict().items() if "readout" in k}
    tower.load_state_dict(state)
    readout.put_into(tower)
    with torch.no_grad():
        got = tower((torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128).numpy()
    np.testing.assert_allclose(got, readout(teacher.features(images)), atol=1e-3 * abs(got).max())
    again, _ = learn_readout(teacher, [pictures], tmp_path, tower, config.image)
    np.testing.assert_allclose(again.weight_DC, readout.weight_DC, atol=1e-4 * abs(readout.weight_DC).max())
    with pytest.raises(
        InputError, match=r"readout of \(16, 1280\) .* does not fit a tower of \(1000, 1280\)"
    ):
        readout.put_into(teacher.network)
