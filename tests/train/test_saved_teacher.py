"""A saved network as a teacher: it says what it answers, and another learns its space."""

import numpy as np
import pytest
from PIL import Image
from small_run import CLASSES

import spikeclip
from spikeclip import open_encoder
from spikeclip.config import ImageFormat
from spikeclip.data import load_pictures
from spikeclip.data.decode import square
from spikeclip.encode.student import Student
from spikeclip.teacher import open_teacher
from spikeclip.teacher.embed import embed_table

ALIGN = {"stage": "align_image", "epochs": 4, "loss": {"cosine": 1.0}}


@pytest.fixture
def twin(run):
    """Folder of an ordinary network after a short training."""
    return run({"stage": "align_text"}, ALIGN, model={"neuron": "relu"}, out="twin")[1]


def test_it_says_what_the_network_answers(twin, root):
    teacher, network = open_teacher(twin), open_encoder(twin)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(teacher.encode_image(images), network.encode_image(images))
    np.testing.assert_array_equal(teacher.encode_text(CLASSES), network.encode_text(CLASSES))
    assert (teacher.dim, teacher.logit_scale) == (network.dim, network.logit_scale)
    wide = np.random.default_rng(1).integers(0, 256, (2, 40, 64, 3), dtype=np.uint8)
    resized = np.stack([square(Image.fromarray(image), 32) for image in wide])
    np.testing.assert_array_equal(teacher.encode_image(wide), network.encode_image(resized))


@pytest.mark.parametrize("table", [False, True])
def test_a_spiking_network_learns_what_its_twin_answers(twin, run, root, tmp_path, table):
    pictures = load_pictures(str(root / "pictures"), "train", ImageFormat(32), cache=tmp_path / "cache")
    path = str(twin)
    if table:
        path = str(tmp_path / "twin.npz")
        teacher = open_teacher(twin)
        embed_table(teacher, [pictures], tmp_path / "twin.npz", tmp_path, templates=["a photo of a {c}."])
    _, folder = run({"stage": "align_text"}, {**ALIGN, "epochs": 12}, teacher={"path": path}, out="student")
    images = pictures.images[:]
    rows = [open_encoder(network).encode_image(images) for network in (twin, folder)]
    centred = [row - row.mean(0) for row in rows]
    cosines = np.sum(centred[0] * centred[1], 1) / np.prod(
        [np.linalg.norm(row, axis=1) for row in centred], 0
    )
    assert cosines.mean() > 0.8


def test_the_shipped_network_teaches_from_its_graphs():
    teacher, network = open_teacher("spikeclip-lite0"), spikeclip.from_pretrained("spikeclip-lite0")
    texts = ["a photo of a dog", "a photo of a bus"]
    np.testing.assert_array_equal(teacher.encode_text(texts), Student(network).encode_text(texts))
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    large = square(Image.fromarray(images[0]), 224)[None]
    np.testing.assert_array_equal(teacher.encode_image(images), Student(network).encode_image(large))
