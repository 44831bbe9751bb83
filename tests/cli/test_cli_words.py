"""`spikeclip teacher words` as a person runs it: a table from tables, a sentence encoder and installed word lists."""

import os
from pathlib import Path

import numpy as np
import pytest
from word_lists import ship_words

import spikeclip
from spikeclip.config import TeacherTraining
from spikeclip.data import Tokenizer
from spikeclip.teacher import open_teacher
from spikeclip.train.clip import ClipNetwork

SOURCE = str(Path(spikeclip.__file__).parents[1])
NOUNS = ["a dog", "a cat", "a jay", "a boat"]


@pytest.fixture
def lists(folder):
    """What the command reads, in `folder`: tables, an encoder with random weights, captions; the path of modules."""
    if not (folder / "lists").exists():
        ship_words(folder / "lists")
        rng = np.random.default_rng(0)
        np.savez(folder / "nouns.npz", texts=NOUNS, embeddings=rng.normal(size=(4, 8)))
        np.savez(
            folder / "classes.npz", wnid=["n1", "n3"], name=["n1", "n3"], prototype=rng.normal(size=(2, 8))
        )
        (folder / "encoder").mkdir()
        settings = TeacherTraining(width=32, layers=1)
        ClipNetwork(settings, 32, Tokenizer.train(NOUNS, 300)).save(folder / "encoder")
        (folder / "captions.txt").write_text("two dogs run\n\na boat at sea\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder / "lists"), SOURCE])}


def test_words_make_a_table(process, folder, lists):
    call = ("teacher", "words", "nouns.npz", "classes.npz", "--encoder", "encoder", "--words", "6")
    code, out, error = process(*call, "--texts", "captions.txt", "--out", "words.npz", **lists)
    assert (code, error) == (0, "")
    assert out == "words.npz: 4 nouns, 4 classes, 3 words, 5 captions\n"
    table = open_teacher(folder / "words.npz")
    assert table.knows("a redbreast")
    assert table.knows("a boat at sea")
    assert table.held is not None

    code, _, error = process(*call, "--out", "words.npz", **lists)
    assert (code, error) == (1, "Error: words.npz exists: --overwrite replaces it\n")


@pytest.mark.parametrize(
    ("options", "expected", "message"),
    [
        (("--out", "words.txt"), 1, "--out names a table, an .npz file; got words.txt"),
        (("--out", "w.npz", "--held", "nan"), 2, "invalid value for '--held': Input should be less than"),
        (("--out", "w.npz", "--words", "30"), 1, "the word lists hold 9 nouns, fewer than the 30 asked for"),
    ],
)
def test_words_say_what_is_wrong(options, expected, message, process, lists):
    code, out, error = process("teacher", "words", "nouns.npz", "--encoder", "encoder", *options, **lists)
    assert (code, out) == (expected, "")
    assert message in error
    assert len(error.splitlines()) == 1
