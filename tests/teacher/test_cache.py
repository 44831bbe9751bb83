"""The cache of a teacher's embeddings: computed once, keyed by all that decides them, kept through a crash."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from spikeclip.config import ImageFormat
from spikeclip.data import Pictures
from spikeclip.data.shapes import shapes
from spikeclip.teacher import Teacher, cached_image_embeddings, cached_text_embeddings


class CountingTeacher(Teacher):
    """Embeds a picture as its mean colour and notes how many it was asked for; fails at picture `fails_at`."""

    name, dim, image_format = "counting", 3, ImageFormat(8)
    fingerprint = "weights and transform"

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.fails_at: int | None = None

    def encode_image(self, images: np.ndarray, spikes: None = None, *, batch_size: int = 64) -> np.ndarray:
        if self.fails_at is not None and sum(self.asked) >= self.fails_at:
            raise KeyboardInterrupt
        self.asked.append(len(images))
        mean_N3 = images.mean((1, 2)).astype(np.float32)
        return mean_N3 / np.linalg.norm(mean_N3, axis=1, keepdims=True)

    def encode_text(self, texts: list[str]) -> np.ndarray:
        self.asked.append(len(texts))
        rows = np.array([[len(text), text.count("a"), 1] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return shapes("test", 70, 16)


@pytest.fixture
def teacher() -> CountingTeacher:
    return CountingTeacher()


def test_images_are_computed_once_and_read_as_a_memory_map(teacher, pictures, tmp_path):
    first = cached_image_embeddings(teacher, pictures, tmp_path, batch_size=32)
    assert teacher.asked == [32, 32, 6]
    again = cached_image_embeddings(teacher, pictures, tmp_path, batch_size=8)
    assert teacher.asked == [32, 32, 6]
    for rows in (first, again):
        assert isinstance(rows, np.memmap)
        assert not rows.flags.writeable
        np.testing.assert_array_equal(rows, CountingTeacher().encode_image(pictures.images[:]))


def test_texts_are_computed_once(teacher, tmp_path):
    texts = ["a red circle", "green", "a bar"]
    first = cached_text_embeddings(teacher, texts, tmp_path)
    np.testing.assert_array_equal(cached_text_embeddings(teacher, texts, tmp_path), first)
    np.testing.assert_array_equal(first, CountingTeacher().encode_text(texts))
    assert teacher.asked == [3]
    cached_text_embeddings(teacher, texts[::-1], tmp_path)
    cached_text_embeddings(teacher, ["a red circle", "greena bar"], tmp_path)
    assert teacher.asked == [3, 3, 2]


def test_another_teacher_or_transform_is_another_entry(teacher, pictures, tmp_path):
    cached_image_embeddings(teacher, pictures, tmp_path)
    cached_text_embeddings(teacher, ["a"], tmp_path)
    other = CountingTeacher()
    other.fingerprint = "other"
    cached_image_embeddings(other, pictures, tmp_path)
    cached_text_embeddings(other, ["a"], tmp_path)
    assert other.asked == [70, 1]


def test_other_pictures_and_other_dtypes_are_other_entries(teacher, pictures, tmp_path):
    whole = cached_image_embeddings(teacher, pictures, tmp_path)
    half = cached_image_embeddings(teacher, pictures, tmp_path, dtype="float16")
    assert (whole.dtype, half.dtype) == (np.float32, np.float16)
    np.testing.assert_allclose(half, whole, atol=1e-3)
    brighter = dataclasses.replace(pictures, images=pictures.images[:] // 2, fingerprint="brighter")
    cached_image_embeddings(teacher, brighter, tmp_path)
    assert teacher.asked == [70, 70, 70]


def test_a_crash_in_the_middle_costs_only_the_chunk_it_hit(teacher, pictures, tmp_path):
    teacher.fails_at = 40
    with pytest.raises(KeyboardInterrupt):
        cached_image_embeddings(teacher, pictures, tmp_path, batch_size=20)
    assert teacher.asked == [20, 20]
    (partial,) = (tmp_path / "embeddings").glob("*.partial")
    with partial.open("ab") as file:  # half a chunk that a kill left behind
        file.write(b"\xff" * 100)
    successor = CountingTeacher()
    rows = cached_image_embeddings(successor, pictures, tmp_path, batch_size=20)
    assert successor.asked == [20, 10]
    np.testing.assert_array_equal(rows, CountingTeacher().encode_image(pictures.images[:]))
    assert not list((tmp_path / "embeddings").glob("*partial*"))


def test_a_partial_file_that_its_journal_does_not_know_is_begun_again(teacher, pictures, tmp_path):
    teacher.fails_at = 40
    with pytest.raises(KeyboardInterrupt):
        cached_image_embeddings(teacher, pictures, tmp_path, batch_size=20)
    (journal,) = (tmp_path / "embeddings").glob("*.partial.json")
    assert json.loads(journal.read_text()) == {"done": 40}
    journal.write_text("")
    successor = CountingTeacher()
    rows = cached_image_embeddings(successor, pictures, tmp_path, batch_size=40)
    assert successor.asked == [40, 30]
    np.testing.assert_array_equal(rows, CountingTeacher().encode_image(pictures.images[:]))


@pytest.mark.parametrize("damage", [lambda blob: blob[:300], lambda blob: b"no array", lambda blob: b""])
def test_a_damaged_file_is_computed_anew(damage, teacher, pictures, tmp_path):
    expected = np.array(cached_image_embeddings(teacher, pictures, tmp_path))
    (file,) = (tmp_path / "embeddings").glob("*.npy")
    file.write_bytes(damage(file.read_bytes()))
    np.testing.assert_array_equal(cached_image_embeddings(teacher, pictures, tmp_path), expected)
    assert teacher.asked == [70, 70]


def test_no_texts_and_no_pictures(teacher, pictures, tmp_path):
    assert cached_text_embeddings(teacher, [], tmp_path).shape == (0, 3)
    assert cached_image_embeddings(teacher, pictures.subset(np.arange(0)), tmp_path).shape == (0, 3)
