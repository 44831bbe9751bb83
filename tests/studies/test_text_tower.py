"""The text tower of a run beside its teacher: what was learned, what was held out, pictures recognised by text."""

import numpy as np
import pytest
from small_run import CLASSES, DIM

from spikeclip.config import ImageFormat, RunConfig, from_dict
from spikeclip.data import load_pictures
from spikeclip.data.shapes import PAIRS
from spikeclip.errors import InputError
from spikeclip.studies.text_tower import compare_text_tower
from spikeclip.teacher import open_teacher
from spikeclip.train.run import train_run


@pytest.fixture(scope="module")
def tables(root):
    """The table of texts; one of the test pictures, their class's text and noise; one of two classes' prototypes."""
    texts = open_teacher(root / "table.npz")
    drawn = load_pictures(str(root / "pictures"), "test", ImageFormat(32), cache=str(root / "cache"))
    of_class_KD = texts.encode_text([f"a photo of a {name}." for name in drawn.classnames])
    noise_ND = np.random.default_rng(0).normal(0, 0.6, (len(drawn), DIM))
    np.savez(
        root / "pictures.npz",
        path=drawn.ids,
        split=["test"] * len(drawn),
        feature=of_class_KD[drawn.labels] + noise_ND,
    )
    np.savez(root / "prototypes.npz", classes=drawn.classnames[:2], class_embeddings=of_class_KD[:2])
    return [str(root / name) for name in ("table.npz", "pictures.npz", "prototypes.npz")]


@pytest.fixture(scope="module")
def run(recipe, tables, tmp_path_factory):
    values = recipe({"stage": "align_text", "epochs": 60}, teacher={"path": tables, "logit_scale": 10.0})
    out = tmp_path_factory.mktemp("text") / "run"
    train_run(from_dict(RunConfig, values), out, quiet=True, test=False)
    return out


def test_texts_and_pictures(run, root, tables):
    record = compare_text_tower(run, [str(root / "pictures")])
    learned, held = record["texts"]["learned"], record["texts"]["held_out"]
    assert learned["texts"] + held["texts"] == len(PAIRS)
    assert held["texts"] > 2
    assert held["centred_cosine"] < learned["centred_cosine"] < learned["cosine"] < 1
    assert learned["centred_cosine"] > 0.7

    prototypes, pictures = record["recognition"]
    assert prototypes["named"] == {"classes": 6, "pictures": 2, "teacher": 1.0, "student": 1.0}
    teacher = open_teacher(tables)
    test = load_pictures(str(root / "pictures"), "test", ImageFormat(32), cache=str(root / "cache"))
    names_KD = teacher.encode_text([f"a photo of a {name}." for name in test.classnames])
    right = (teacher.find_images(test) @ names_KD.T).argmax(1) == test.labels
    assert 0.5 < right.mean() < 1
    assert pictures["named"]["teacher"] == pytest.approx(right.mean())
    assert pictures["named"]["pictures"] == len(test)
    assert pictures["named"]["classes"] == len(CLASSES)
    assert pictures["named"] == pictures["all"]
    assert abs(pictures["named"]["student"] - right.mean()) < 0.15


def test_names_that_the_teacher_lacks_are_asked_of_the_student(run, root):
    renamed = {CLASSES[0]: "a word of its own"}
    found = compare_text_tower(run, [str(root / "pictures")], classnames=renamed)["recognition"][1]
    assert found["named"]["classes"] == len(CLASSES) - 1
    assert found["all"]["classes"] == len(CLASSES)
    assert "teacher" not in found["all"]
    assert found["all"]["student"] < found["named"]["student"]


def test_what_cannot_be_compared(run, root, recipe, tmp_path):
    with pytest.raises(InputError, match="not the folder of a run"):
        compare_text_tower(root)
    with pytest.raises(InputError, match="no embedding of a labelled picture"):
        compare_text_tower(run, [str(root / "pictures")], "train")
    alone = from_dict(RunConfig, recipe({"stage": "contrastive", "epochs": 1}, teacher=False))
    train_run(alone, tmp_path / "alone", quiet=True, test=False)
    with pytest.raises(InputError, match="without a teacher"):
        compare_text_tower(tmp_path / "alone")
