"""A table of common words: where it places names of each source, what it holds out, and what training makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from word_lists import ship_words

from spikeclip.encode.vectors import unit
from spikeclip.errors import InputError
from spikeclip.teacher import open_teacher
from spikeclip.teacher.words import LENGTH, TEMPLATES, is_held, word_table

NOUNS = [f"a {word}" for word in ("dog", "cat", "jay", "red ring", "green bar", "blue star", "tea", "boat")]
DIM = 24


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Tables of nouns and of the prototypes of four classes, the lists of words beside them."""
    monkeypatch.syspath_prepend(ship_words(tmp_path / "lists"))
    rng = np.random.default_rng(0)
    mean_D = 2 * rng.normal(size=DIM)
    np.savez(tmp_path / "nouns.npz", texts=NOUNS, embeddings=mean_D + rng.normal(size=(len(NOUNS), DIM)))
    keys = ["n1", "n2", "n3", "n4"]
    np.savez(tmp_path / "classes.npz", wnid=keys, name=keys, prototype=rng.normal(size=(4, DIM)) - mean_D)
    return [tmp_path / "nouns.npz", tmp_path / "classes.npz"]


def make(tables, bert, tmp_path, name="words.npz", **options):
    teacher, encoder = open_teacher(tables), open_teacher(bert[0])
    counts = word_table(teacher, encoder, tmp_path / name, tmp_path / "cache", count=6, **options)
    return counts, open_teacher(tmp_path / name), teacher


def test_every_source_has_its_names(tables, bert, tmp_path):
    counts, table, teacher = make(tables, bert, tmp_path, texts=["Two dogs run ."], held=0)
    # A jay is a noun of the teacher's, so no class and no word; the two cranes share one name.
    assert counts == {"nouns": 8, "classes": 4, "words": 2, "captions": 4}
    of = {group: {text for text in table.texts if table.groups[text] == group} for group in counts}
    assert {f"a {name}" for name in ("robin", "redbreast", "erithacus rubecola", "crane")} <= of["classes"]
    assert of["words"] == {"a sky", "a music"}
    assert of["captions"] >= {"two dogs run .", "a metal pot"}
    assert table.held == frozenset()
    np.testing.assert_allclose(table.encode_text(NOUNS), teacher.encode_text(NOUNS), atol=1e-3)


def test_prompts_of_one_name_have_one_place(tables, bert, tmp_path):
    _, table, _ = make(tables, bert, tmp_path, held=0)
    for name in ("dog", "robin"):
        prompts = [template.replace("{c}", name) for template in TEMPLATES]
        taught = [prompt for prompt in prompts if table.knows(prompt)]
        assert taught[0] == f"a {name}"
        assert len(taught) >= 5
        assert (table.encode_text(taught) == table.encode_text(taught[:1])).all()


def test_a_class_lies_between_its_name_and_its_prototype(tables, bert, tmp_path):
    _, table, teacher = make(tables, bert, tmp_path, held=0)
    real_ND = teacher.encode_text(NOUNS)
    mean_D = real_ND.mean(0)
    prototypes_KD = teacher.find_classes([["n1"], ["n2"], ["n3"], ["n4"]])
    names_KD = np.stack([prototypes_KD[0], prototypes_KD[2:].mean(0)])
    # Of the prototypes of all names: robin, redbreast and the third have one class's.
    towards_KD = unit(names_KD - (3 * names_KD[0] + names_KD[1]) / 4)
    placed_KD = table.encode_text(["a robin", "a crane"])
    assert ((unit(placed_KD - mean_D) * towards_KD).sum(1) > 0.5).all()
    length = LENGTH * np.linalg.norm(real_ND - mean_D, axis=1).mean()
    assert (np.linalg.norm(placed_KD - unit(mean_D[None]), axis=1) < 2 * length).all()


def test_what_is_held_out_is_in_one_prompt_and_moves_nothing(tables, bert, tmp_path):
    held = [text for text in NOUNS if is_held(text[2:], 0.4)]
    assert 0 < len(held) < len(NOUNS) - 2
    _, table, teacher = make(tables, bert, tmp_path, held=0.4)
    assert table.held is not None
    assert {text for text in NOUNS if text in table.held} == set(held)
    for text in held:
        assert [other for other in table.texts if other.endswith(text[2:])] == [text]
    words = [text for text in table.texts if table.groups[text] in ("words", "captions")]
    before = table.encode_text(words)
    rows = teacher.encode_text(NOUNS)
    rows[[NOUNS.index(text) for text in held]] *= -1
    np.savez(tables[0], texts=NOUNS, embeddings=rows)
    _, other, _ = make(tables, bert, tmp_path, "other.npz", held=0.4)
    np.testing.assert_array_equal(other.encode_text(words), before)
    assert other.held == table.held


def test_a_larger_share_holds_out_the_same_and_more():
    names = [f"name {i}" for i in range(2000)]
    small, large = ({name for name in names if is_held(name, share)} for share in (0.1, 0.3))
    assert small < large
    assert len(small) == pytest.approx(200, abs=45)
    assert is_held("A_Dog", 0.5) == is_held("a dog", 0.5)


def test_a_table_without_nouns_teaches_no_words(tables, bert, tmp_path):
    np.savez(tables[0], texts=["dog", "the cat"], embeddings=np.eye(2, DIM))
    with pytest.raises(InputError, match=r"nouns\+classes holds 0 texts such as 'a dog'"):
        make(tables, bert, tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"held": np.array([1, 0])},
            r"held must be true and false, one for each of 2 texts, got int64 of shape",
        ),
        (
            {"groups": np.array(["a"])},
            r"groups must be texts, one for each of 2 texts, got <U1 of shape \(1,\)",
        ),
    ],
)
def test_marks_of_texts_fit_the_texts(columns, message, tmp_path):
    np.savez(tmp_path / "t.npz", texts=["a", "b"], text_embeddings=np.eye(2), **columns)
    with pytest.raises(InputError, match=message):
        open_teacher(tmp_path / "t.npz")
