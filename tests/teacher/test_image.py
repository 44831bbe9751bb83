"""An image network as a teacher: class probabilities times class prototypes, beside what tables store."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from spikeclip import open_encoder
from spikeclip.config import ImageFormat, RunConfig, from_dict
from spikeclip.data import Pictures
from spikeclip.data.prompts import load_prompts
from spikeclip.errors import InputError
from spikeclip.teacher import open_teacher, teacher_image_embeddings
from spikeclip.train.lessons import gather_lessons
from spikeclip.train.pictures import load_run_pictures
from spikeclip.train.recipe_checks import check_run
from tests.public_weights import write_lite0

DIM = 16
IDS = load_prompts("imagenet1k").ids


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    """Files of a random Lite0 and of prototypes in another order than the labels'; the network and the prototypes."""
    folder = tmp_path_factory.mktemp("lite")
    tower = write_lite0(folder / "lite0.pth")
    rng = np.random.default_rng(0)
    rows = unit(rng.standard_normal((1000, DIM)))
    order = rng.permutation(1000)
    np.savez(
        folder / "classes.npz", wnid=np.array(IDS)[order], name=np.array(IDS)[order], prototype=rows[order]
    )
    return folder, tower, rows


def test_a_picture_is_the_mean_prototype_of_its_ten_classes(lite):
    folder, tower, rows = lite
    teacher = open_encoder([folder / "lite0.pth", folder / "classes.npz"])
    assert teacher.image_format.shape == (224, 224, 3)
    images = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    with torch.no_grad():
        logits = tower((torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128)
    expected = []
    for p in logits.softmax(1).numpy():
        best = p.argsort()[-10:]
        expected.append(p[best] @ rows[best])
    got = teacher.encode_image(images)
    np.testing.assert_allclose(got, unit(np.array(expected)), atol=1e-4)
    np.testing.assert_allclose(teacher.encode_image(images[:1]), got[:1], atol=1e-4)
    assert teacher.encode_image(images[:, :32, :48]).shape == (3, DIM)
    assert teacher.encode_image(images[:0]).shape == (0, DIM)


def test_stored_embeddings_come_first_and_texts_are_the_tables(lite, tmp_path):
    folder, _, rows = lite
    images = np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    pictures = Pictures("set", "train", images, ["a", "b", "c"], "three")
    np.savez(
        tmp_path / "more.npz",
        texts=["a dog"],
        text_embeddings=rows[:1],
        images=["b"],
        splits=["train"],
        image_embeddings=rows[5:6],
    )
    teacher = open_teacher([tmp_path / "more.npz", folder / "lite0.pth", folder / "classes.npz"])
    embedded = teacher_image_embeddings(teacher, pictures, tmp_path)
    computed = teacher.encode_image(images)
    np.testing.assert_allclose(embedded, [computed[0], rows[5], computed[2]], atol=1e-4)
    np.testing.assert_allclose(teacher.encode_text(["a dog"]), rows[:1], atol=1e-6)
    assert (teacher.knows("a dog"), teacher.knows("a cat"), teacher.texts) == (True, False, ["a dog"])
    np.testing.assert_allclose(teacher.find_classes([[IDS[7]]]), rows[7:8], atol=1e-6)
    alone = open_teacher([folder / "lite0.pth", folder / "classes.npz"])
    assert alone.fingerprint != teacher.fingerprint
    np.testing.assert_array_equal(teacher_image_embeddings(alone, pictures, tmp_path), computed)


def test_what_an_image_network_lacks_is_said(lite, tmp_path, monkeypatch):
    folder, _, rows = lite
    monkeypatch.delenv("SPIKECLIP_DATA", raising=False)
    with pytest.raises(
        InputError, match=r"needs a table of their embeddings: teacher.path=\[.*lite0.pth, TABLE.npz\]"
    ):
        open_teacher(folder / "lite0.pth")
    np.savez(tmp_path / "few.npz", wnid=IDS[:998], name=IDS[:998], prototype=rows[:998])
    with pytest.raises(InputError, match=r"few lacks 2 of the 1,000 ImageNet classes .* n13133613 \(ear"):
        open_teacher([folder / "lite0.pth", tmp_path / "few.npz"])
    with pytest.raises(InputError, match="unknown network 'efficientnet-lite9'"):
        open_teacher(["efficientnet-lite9", folder / "classes.npz"])
    (tmp_path / "clip_teacher").mkdir()
    (folder / "classes.npz").rename(tmp_path / "clip_teacher" / "imagenet1k_prototypes.npz")
    monkeypatch.setenv("SPIKECLIP_DATA", str(tmp_path))
    try:
        assert open_teacher(folder / "lite0.pth").name == "efficientnet-lite0+imagenet1k_prototypes"
    finally:
        (tmp_path / "clip_teacher" / "imagenet1k_prototypes.npz").rename(folder / "classes.npz")


def test_a_recipe_takes_one_image_network_beside_tables():
    def recipe(path):
        return {
            "teacher": {"path": path},
            "stages": [{"stage": "align_image", "epochs": 1}],
            "data": {"source": "x"},
        }

    check_run(from_dict(RunConfig, json.loads(json.dumps(recipe(["efficientnet-lite0", "a.npz", "b.npz"])))))
    check_run(from_dict(RunConfig, recipe("efficientnet-lite0")))
    for path in (["efficientnet-lite0", "efficientnet-lite1"], ["a.npz", "some/clip"]):
        with pytest.raises(InputError, match="npz tables and at most one image network, got"):
            check_run(from_dict(RunConfig, recipe(path)))


def test_the_lessons_of_a_recipe_come_from_the_network_and_the_tables(lite, tmp_path):
    folder, _, rows = lite
    rng = np.random.default_rng(3)
    for name, i in itertools.product(("cat", "dog"), range(4)):
        file = tmp_path / "animals" / name / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(file)
    np.savez(tmp_path / "texts.npz", texts=["a cat", "a dog", "a car"], text_embeddings=rows[:3])
    data = {
        "source": str(tmp_path / "animals"),
        "templates": ["a {c}"],
        "cache": str(tmp_path),
        "val_fraction": 0.25,
    }
    path = [str(folder / "lite0.pth"), str(folder / "classes.npz"), str(tmp_path / "texts.npz")]
    values = {
        "data": data,
        "teacher": {"path": path},
        "vocab_size": 300,
        "stages": [{"stage": "align_image"}],
    }
    config = from_dict(RunConfig, values)
    pictures = load_run_pictures(config, ImageFormat(32))
    lessons = gather_lessons(config, pictures)
    assert lessons.texts == ["a cat", "a dog", "a car"]
    np.testing.assert_allclose(lessons.teacher_texts_ND, rows[:3], atol=1e-6)
    images = np.asarray(pictures.splits["val"].images)
    np.testing.assert_allclose(
        lessons.teacher_images["val"], open_teacher(path).encode_image(images), atol=1e-5
    )
    assert lessons.prototypes_KD.shape == (2, DIM)


def test_with_a_readout_a_picture_is_that_map_of_its_features(lite, tmp_path):
    folder, tower, rows = lite
    rng = np.random.default_rng(4)
    weight, bias = rng.standard_normal((DIM, 1280)).astype(np.float32), rng.standard_normal(DIM)
    file = tmp_path / "readout.npz"
    np.savez(file, weight=weight, bias=bias, centre=rows[0] / 2, teacher="")
    np.savez(tmp_path / "texts.npz", texts=["a cat"], text_embeddings=rows[1:2])
    sources = [folder / "lite0.pth", folder / "classes.npz", tmp_path / "texts.npz"]
    teacher, plain = open_teacher(sources, readout=file), open_teacher(sources)
    images = rng.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    with torch.no_grad():
        features = tower.features((torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128)[0]
    np.testing.assert_allclose(
        teacher.encode_image(images), unit(features.numpy() @ weight.T + bias), atol=1e-4
    )
    np.testing.assert_allclose(teacher.find_classes([[IDS[7]]]), unit(rows[7:8] - rows[0] / 2), atol=1e-6)
    assert np.isnan(teacher.find_classes([["no class"]])).all()
    np.testing.assert_array_equal(teacher.encode_text(["a cat"]), plain.encode_text(["a cat"]))
    assert teacher.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"weight": np.ones((DIM, 3)), "bias": np.ones(DIM), "centre": np.ones(DIM)},
            "as \\(3, 16\\); .* \\(1280, 16\\)",
        ),
        (
            {"weight": np.ones((DIM, 3)), "bias": np.ones(3), "centre": np.ones(DIM)},
            "readout.npz is no readout: it",
        ),
        ({"texts": ["a"], "embeddings": np.ones((1, DIM))}, "readout.npz is no readout: it lacks weight"),
    ],
)
def test_a_file_that_is_no_readout_of_the_network(lite, tmp_path, columns, message):
    folder, file = lite[0], tmp_path / "readout.npz"
    with pytest.raises(InputError, match=r"no such readout: .*`spikeclip teacher readout` writes one"):
        open_teacher([folder / "lite0.pth", folder / "classes.npz"], readout=file)
    np.savez(file, **columns)
    with pytest.raises(InputError, match=message):
        open_teacher([folder / "lite0.pth", folder / "classes.npz"], readout=file)
    with pytest.raises(InputError, match=r"is a readout of an image network's features, and .* is none"):
        open_teacher(folder / "classes.npz", readout=file)
