"""Tables as teachers: what they hold is found by text, by split and path, by class; and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from spikeclip.data import Pictures
from spikeclip.errors import InputError
from spikeclip.teacher import open_teacher

EYE = np.eye(8, dtype=np.float32)


def pictures(*ids: str, split: str = "train", name: str = "set") -> Pictures:
    return Pictures(name, split, np.zeros((len(ids), 4, 4, 3), np.uint8), list(ids), "")


def test_table_finds_texts_and_names_what_it_lacks(tmp_path):
    rows = np.random.default_rng(0).standard_normal((3, 8))
    np.savez(tmp_path / "t.npz", embeddings=rows, texts=["a red circle", "A Dog", "green"])
    teacher = open_teacher(tmp_path / "t.npz")
    assert (teacher.dim, teacher.image_format, teacher.texts) == (8, None, ["a red circle", "a dog", "green"])
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(teacher.encode_text(["green", "a dog", "GREEN"]), unit[[2, 1, 2]], atol=1e-6)
    with pytest.raises(InputError, match=r"t has no embedding of 2 of the texts: 'a red circl' \(near: 'a "):
        teacher.encode_text(["a red circl", "green", "zzz"])
    with pytest.raises(
        InputError, match=r"data\.classnames: \{automobile: car\}.*teacher\.encoder: sentence-trans"
    ):
        teacher.encode_text(["zzz"])
    with pytest.raises(InputError, match=r"expected a list of texts, got the text 'green': write \[text\]"):
        teacher.encode_text("green")


def test_table_of_names_embeds_a_name_and_prefers_unique_rows(tmp_path):
    rows = np.eye(3, 4, dtype=np.float32)
    columns = {"names": ["bank_1", "bank_2", "dog"], "raw_name": ["bank", "bank", "dog"]}
    np.savez(tmp_path / "t.npz", embeddings=rows, unique=np.array([False, True, True]), **columns)
    teacher = open_teacher(tmp_path / "t.npz")
    assert teacher.texts == ["a bank", "a dog"]
    np.testing.assert_array_equal(
        teacher.encode_text(["a bank", "bank", "bank_1", "dog"]), rows[[1, 1, 0, 2]]
    )


def test_the_table_of_clip_nouns(shared):
    teacher = open_teacher(shared / "text/clip_vitb32_nouns.npz")
    assert teacher.texts is not None
    some = teacher.texts[:50]
    rows = teacher.encode_text(some)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    assert (rows @ rows.T).argmax(1).tolist() == list(range(50))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"embeddings": np.ones((2, 3))}, "expected `texts` with `text_embeddings`"),
        (
            {"embeddings": np.ones((2, 3)), "texts": ["one"]},
            r"embeddings of shape \(2, 3\), but texts of shape \(1,\)",
        ),
        (
            {"embeddings": np.ones((2, 3)), "texts": "one"},
            r"embeddings of shape \(2, 3\), but texts of shape \(\)",
        ),
        (
            {"embeddings": ["a", "b"], "texts": ["a", "b"]},
            r"embeddings holds <U1 where floats were expected",
        ),
        (
            {"embeddings": np.full((1, 3), np.inf), "texts": ["a"]},
            "embeddings holds values that are not finite",
        ),
        ({"embeddings": np.ones((1, 3), np.int8), "texts": ["a"]}, "embeddings holds int8 where floats were"),
        ({"embeddings": np.ones((1, 3), bool), "texts": ["a"]}, "embeddings holds bool where floats were"),
        (
            {"embeddings": np.eye(3)[[0, 0]] * [[1], [0]], "texts": ["a", "b"]},
            "embeddings holds a row of zeros",
        ),
        (
            {"image_embeddings": np.ones((2, 0, 3)), "images": ["a", "b"], "splits": ["test", "test"]},
            r"image_embeddings of shape \(2, 0, 3\), but images",
        ),
        (
            {"embeddings": np.ones((1, 3)), "names": ["a"], "unique": [True, True]},
            "1 names, but unique of shape",
        ),
        (
            {"embeddings": np.ones((1, 3)), "texts": ["a"], "logit_scale": [1, 2]},
            "logit_scale must be one number",
        ),
    ],
)
def test_table_that_does_not_fit(tmp_path, columns, message):
    np.savez(tmp_path / "t.npz", **columns)
    with pytest.raises(InputError, match=message):
        open_teacher(tmp_path / "t.npz")


def test_table_that_is_damaged_or_absent(tmp_path):
    (tmp_path / "t.npz").write_bytes(b"PK and nothing")
    with pytest.raises(InputError, match="the table of embeddings cannot be read"):
        open_teacher(tmp_path / "t.npz")
    with pytest.raises(InputError, match="no such table"):
        open_teacher(tmp_path / "no.npz")


def test_pictures_are_found_by_split_and_path(tmp_path):
    """Test rows never answer for training pictures, whatever their path."""
    columns = {"images": ["a.jpg", "b.jpg", "a.jpg"], "splits": ["test", "train", "train"]}
    np.savez(tmp_path / "t.npz", image_embeddings=EYE[:3], **columns)
    teacher = open_teacher(tmp_path / "t.npz")
    assert teacher.image_format is None
    found = teacher.find_images(pictures("a.jpg", "b.jpg", "c.jpg"))
    np.testing.assert_array_equal(found[:2], EYE[[2, 1]])
    assert np.isnan(found[2]).all()
    found = teacher.find_images(pictures("a.jpg", "b.jpg", split="test"))
    np.testing.assert_array_equal(found[0], EYE[0])
    assert np.isnan(found[1]).all()


def test_pictures_of_equal_path_in_two_sets_are_told_apart(tmp_path):
    columns = {"images": ["train/0"] * 2, "splits": ["train"] * 2, "sources": ["one", "two"]}
    np.savez(tmp_path / "t.npz", image_embeddings=EYE[:2], **columns)
    teacher = open_teacher(tmp_path / "t.npz")
    for i, name in enumerate(("one", "two")):
        np.testing.assert_array_equal(teacher.find_images(pictures("train/0", name=name))[0], EYE[i])
    assert np.isnan(teacher.find_images(pictures("train/0", name="three"))).all()


def test_augmentations_of_a_picture_are_averaged(tmp_path):
    rows = np.stack([3 * EYE[:1], EYE[1:2]], axis=1)
    np.savez(tmp_path / "t.npz", images=["a"], splits=["train"], image_embeddings=rows)
    found = open_teacher(tmp_path / "t.npz").find_images(pictures("a"))
    np.testing.assert_allclose(found[0], (EYE[0] + EYE[1]) / np.sqrt(2), atol=1e-6)


def test_classes_are_found_by_their_first_known_key(tmp_path):
    columns = {"wnid": ["n1", "n2", "n3"], "name": ["great_white_shark", "crane", "crane"]}
    np.savez(tmp_path / "t.npz", prototype=EYE[:3], **columns)
    found = open_teacher(tmp_path / "t.npz").find_classes(
        [["n0", "Great white shark"], ["n3", "crane"], ["crane"]]
    )
    np.testing.assert_array_equal(found[:2], EYE[[0, 2]])
    assert np.isnan(found[2]).all()  # two birds, or a bird and a machine


def test_tables_are_combined_and_the_first_counts(tmp_path):
    np.savez(tmp_path / "a.npz", texts=["a dog"], text_embeddings=EYE[:1], logit_scale=50.0)
    np.savez(tmp_path / "b.npz", texts=["a dog", "a cat"], embeddings=EYE[1:3])
    np.savez(tmp_path / "c.npz", classes=["dog"], class_embeddings=EYE[3:4])
    paths = [tmp_path / f"{name}.npz" for name in "abc"]
    teacher = open_teacher(paths)
    assert (teacher.texts, teacher.logit_scale) == (["a dog", "a cat"], 50)
    np.testing.assert_array_equal(teacher.encode_text(["a dog", "a cat"]), EYE[[0, 2]])
    np.testing.assert_array_equal(teacher.find_classes([["dog"]]), EYE[3:4])
    assert teacher.knows("a Dog")
    assert not teacher.knows("a cow")
    assert teacher.fingerprint != open_teacher(paths[:2]).fingerprint


def test_tables_that_do_not_go_together(tmp_path):
    np.savez(tmp_path / "a.npz", texts=["a dog"], embeddings=EYE[:1])
    np.savez(tmp_path / "b.npz", texts=["a cat"], embeddings=EYE[:1, :4])
    with pytest.raises(InputError, match=r"need one dimension, got \{'a.npz': 8, 'b.npz': 4\}"):
        open_teacher([tmp_path / "a.npz", tmp_path / "b.npz"])
    with pytest.raises(
        InputError, match=r"several teachers in one are \.npz tables and at most one image network"
    ):
        open_teacher([tmp_path / "a.npz", tmp_path])


def test_the_tables_of_clip(shared, tmp_path):
    """Their layouts as they are, and the nearest prototype of a real picture is that of its class."""
    folder = shared / "clip_teacher"
    teacher = open_teacher([folder / "caltech101.npz", folder / "imagenet1k_prototypes.npz"])
    with np.load(folder / "caltech101.npz") as table:
        names, splits, paths = (table[key] for key in ("classnames", "split", "path"))
        rows = np.flatnonzero((table["label"] == list(names).index("accordion")) & (splits == "test"))
    found = teacher.find_images(pictures(*map(str, paths[rows]), split="test"))
    assert np.isfinite(found).all()
    assert np.isnan(teacher.find_images(pictures(*map(str, paths[rows]), split="train"))).all()
    classes = teacher.find_classes([["accordion"], ["n01443537"], ["soccer_ball"]])
    assert (found @ classes.T).argmax(1).tolist() == [0] * len(rows)
