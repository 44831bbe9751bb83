"""A live teacher's table: it says what the teacher says, and an interrupted one goes on where it was."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import TEXTS

from spikeclip.cli import main
from spikeclip.config import AugmentConfig, ImageFormat, RunConfig, from_dict
from spikeclip.data import Pictures
from spikeclip.errors import InputError
from spikeclip.teacher import open_teacher
from spikeclip.teacher.embed import Views, embed_table
from spikeclip.train.lessons import Lessons, gather_lessons
from spikeclip.train.pictures import load_run_pictures


@pytest.fixture
def part() -> Pictures:
    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(10) % 2
    return Pictures("set", "train", images, [f"{i}.png" for i in range(10)], "abc", labels, ["ring", "bar"])


def test_the_table_says_what_the_teacher_says(dual, part, tmp_path):
    teacher = open_teacher(dual[1])
    counts = embed_table(
        teacher, [part], tmp_path / "t.npz", tmp_path, templates=["a {c}", "the {c}"], texts=TEXTS
    )
    assert counts == {"images": 10, "texts": 7}
    table = open_teacher(tmp_path / "t.npz")
    np.testing.assert_allclose(table.find_images(part), teacher.encode_image(part.images[:]), atol=1e-3)
    texts = [*TEXTS, "a ring", "the bar"]
    np.testing.assert_allclose(table.encode_text(texts), teacher.encode_text(texts), atol=1e-3)
    assert table.logit_scale == pytest.approx(teacher.logit_scale)
    assert table.dim == teacher.dim


@pytest.mark.parametrize("dual", ["clip"], indirect=True)
def test_augmentations_are_averaged_and_an_interrupted_call_goes_on(dual, part, tmp_path, monkeypatch):
    teacher = open_teacher(dual[1])
    embed, seen = teacher.encode_image, []

    def make(out: str, cache: str, stop_after: int | None = None) -> np.ndarray:
        seen.clear()

        def watched(images: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
            if len(seen) == stop_after:
                raise KeyboardInterrupt
            seen.append(images)
            return embed(images, batch_size=batch_size)

        monkeypatch.setattr(teacher, "encode_image", watched)
        embed_table(
            teacher,
            [part],
            tmp_path / out,
            tmp_path / cache,
            templates=["a {c}"],
            views=Views(3, AugmentConfig(flip="random")),
            batch_size=4,
        )
        return open_teacher(tmp_path / out).find_images(part)

    whole = make("whole.npz", "one")
    assert len(seen) == 9  # three chunks, three views each
    assert not np.array_equal(seen[0], seen[1])
    mean = sum(embed(view) for view in seen[:3])
    np.testing.assert_allclose(whole[:4], mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-3)
    with pytest.raises(KeyboardInterrupt):
        make("parts.npz", "two", stop_after=4)
    assert not (tmp_path / "parts.npz").exists()
    np.testing.assert_array_equal(make("parts.npz", "two"), whole)
    assert len(seen) == 6


def test_a_teacher_of_texts_makes_a_table_of_texts(bert, part, tmp_path):
    teacher = open_teacher(bert[0])
    embed_table(teacher, [part], tmp_path / "t.npz", tmp_path, templates=["a {c}"], texts=TEXTS)
    table = open_teacher(tmp_path / "t.npz")
    assert table.texts == ["a ring", "a bar", *TEXTS]
    assert np.isnan(table.find_images(part)).all()
    with pytest.raises(InputError, match="is a table already"):
        embed_table(table, [part], tmp_path / "u.npz", tmp_path, templates=["a {c}"])
    with pytest.raises(InputError, match="nothing to embed"):
        embed_table(teacher, [], tmp_path / "u.npz", tmp_path, templates=["a {c}"])


@pytest.mark.parametrize("dual", ["clip"], indirect=True)
def test_the_command_makes_a_table_that_trains_as_its_teacher(dual, tmp_path, monkeypatch, capsys):
    """`teacher embed`, then the lessons of a run from the table against that from the model."""
    rng = np.random.default_rng(0)
    for split, name, i in itertools.product(("train", "test"), ("ring", "bar"), range(8)):
        path = tmp_path / "pictures" / split / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.txt").write_text("\n".join(TEXTS) + "\n\n")
    command = ["teacher", "embed", str(dual[1]), "--data", "pictures", "--template", "a {c}"]
    command += ["--texts", "more.txt", "--cache", "cache", "--out", "tables/t.npz"]
    for code, said in ((0, "tables/t.npz: 16 pictures and 5 texts"), (1, "--overwrite replaces it")):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == code
        assert said in "".join(capsys.readouterr())

    def lessons(teacher: str) -> Lessons:
        data = {"source": "pictures", "templates": ["a {c}"], "val_fraction": 0.25, "cache": "cache"}
        values = {"data": {**data, "texts": "more.txt"}, "teacher": {"path": teacher}, "vocab_size": 300}
        values["stages"] = [{"stage": "align_image"}]
        config = from_dict(RunConfig, values)
        return gather_lessons(config, load_run_pictures(config, ImageFormat(32)))

    live, stored = lessons(str(dual[1])), lessons("tables/t.npz")
    assert stored.texts == live.texts
    assert stored.teacher_scale == pytest.approx(live.teacher_scale)
    torch.testing.assert_close(stored.teacher_texts_ND, live.teacher_texts_ND, atol=1e-3, rtol=0)
    torch.testing.assert_close(stored.prototypes_KD, live.prototypes_KD, atol=1e-3, rtol=0)
    for split in ("train", "val"):
        torch.testing.assert_close(
            stored.teacher_images[split], live.teacher_images[split], atol=1e-3, rtol=0
        )
