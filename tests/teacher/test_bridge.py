"""Texts that a table lacks, by way of a sentence encoder."""

from __future__ import annotations

import numpy as np
import pytest

from spikeclip.errors import InputError
from spikeclip.teacher import open_teacher
from spikeclip.teacher.bridge import bridged_text_embeddings

WORDS = [
    f"{colour} {shape}" for colour in ("red", "green", "blue", "pink") for shape in ("ring", "bar", "star")
]


@pytest.fixture
def teachers(bert, tmp_path):
    """A table that knows some of the words, all of which it would place by a rotation of what the encoder says."""
    encoder = open_teacher(bert[0])
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(encoder.dim, encoder.dim)))
    wanted = encoder.encode_text(WORDS) @ rotation.astype(np.float32)
    np.savez(tmp_path / "t.npz", texts=WORDS[:8], embeddings=wanted[:8])
    return open_teacher(tmp_path / "t.npz"), encoder, wanted


def test_known_texts_stay_and_others_come_near(teachers, tmp_path):
    table, encoder, wanted = teachers
    made = bridged_text_embeddings(table, encoder, WORDS, WORDS[:8], tmp_path)
    np.testing.assert_allclose(made[:8], wanted[:8], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    mean = wanted[:8].mean(0)
    blind = wanted[8:] @ mean / np.linalg.norm(mean)
    assert ((made[8:] * wanted[8:]).sum(1) > blind).mean() > 0.7


def test_what_is_held_out_teaches_nothing(teachers, tmp_path):
    table, encoder, wanted = teachers
    asked = WORDS[8:]
    before = bridged_text_embeddings(table, encoder, asked, WORDS[:6], tmp_path)
    np.savez(tmp_path / "u.npz", texts=WORDS[:8], embeddings=np.concatenate([wanted[:6], -wanted[6:8]]))
    other = open_teacher(tmp_path / "u.npz")
    np.testing.assert_array_equal(bridged_text_embeddings(other, encoder, asked, WORDS[:6], tmp_path), before)


def test_one_text_is_not_enough(teachers, tmp_path):
    table, encoder, _ = teachers
    with pytest.raises(InputError, match=r"learns from texts that teacher\.path knows, and has 1"):
        bridged_text_embeddings(table, encoder, WORDS, WORDS[:1], tmp_path)
