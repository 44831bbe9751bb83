"""Training of a teacher: what it learns, what it leaves behind, and what it refuses."""

import contextlib
import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoTokenizer, CLIPModel, CLIPProcessor

from spikeclip.config import TeacherTraining
from spikeclip.data import Tokenizer
from spikeclip.data.shapes import shapes
from spikeclip.encode.embed import embed_pictures, zero_shot_classifier
from spikeclip.errors import InputError
from spikeclip.evaluate.zero_shot import zero_shot_metrics
from spikeclip.teacher import open_teacher
from spikeclip.train import clip, loop, session
from spikeclip.train.session import Interrupted
from spikeclip.train.stages import captions
from spikeclip.train.teacher import train_teacher

FILES = ["config.json", "log", "model.safetensors", "preprocessor_config.json", "tokenizer.json"]
FILES += ["tokenizer_config.json"]
EPOCHS = 24
SMALL = {"width": 32, "layers": 1, "patch_size": 8, "batch_size": 32, "lr": 3e-3}


def train(pictures, validation, out, *, resume=False, overwrite=False, **settings):
    options = {"resume": resume, "overwrite": overwrite, "quiet": True}
    return train_teacher(pictures, validation, out, TeacherTraining(**settings), **options)


@pytest.fixture(scope="module")
def drawn():
    return shapes("train", 320), shapes("test", 80)


@pytest.fixture(scope="module")
def trained(drawn, tmp_path_factory):
    """The folder and the result of a small teacher trained for a few seconds."""
    out = tmp_path_factory.mktemp("teacher") / "t"
    return out, train(*drawn, out, epochs=EPOCHS, **SMALL)


def labelled(pictures):
    """Of the pictures the red and the blue ones, with a class for each colour and no captions."""
    colours = pictures.labels // 8
    chosen = np.flatnonzero((colours == 0) | (colours == 2))
    return dataclasses.replace(
        pictures.subset(chosen), labels=colours[chosen] // 2, classnames=["red", "blue"], captions=None
    )


def test_the_loss_falls_and_the_result_says_how_it_went(trained, drawn):
    _, result = trained
    history = result["history"]
    assert result["epochs"] == EPOCHS
    assert [row["epoch"] for row in history] == list(range(1, EPOCHS + 1))
    assert history[-1]["loss"] < history[0]["loss"] - 0.3
    assert history[0]["loss"] == pytest.approx(math.log(32), abs=0.5)  # it knows nothing yet
    best = max(row["val_recall@1"] for row in history)
    assert result["val_recall@1"] == best == history[result["best_epoch"] - 1]["val_recall@1"]
    assert best > 3 / len(drawn[1])
    assert 1 < result["logit_scale"] <= 100.001
    assert result["seconds"] > 0


def test_the_folder_is_a_hugging_face_model_with_the_same_features(trained, drawn):
    out, result = trained
    assert sorted(file.name for file in out.iterdir()) == FILES
    teacher = open_teacher(out)
    model, processor = CLIPModel.from_pretrained(out).eval(), CLIPProcessor.from_pretrained(out)
    assert sum(p.numel() for p in model.parameters()) == result["parameters"]
    assert teacher.logit_scale == pytest.approx(result["logit_scale"])

    images, texts = drawn[1].images[:8], [group[0] for group in drawn[1].captions[:8]]
    inputs = processor(
        images=[Image.fromarray(i) for i in images], text=texts, return_tensors="pt", padding=True
    )
    with torch.no_grad():
        expected = model(**inputs)
    np.testing.assert_allclose(teacher.encode_image(images), expected.image_embeds, atol=1e-5)
    np.testing.assert_allclose(teacher.encode_text(texts), expected.text_embeds, atol=1e-5)


def test_the_saved_features_are_those_that_were_validated(trained, drawn):
    out, result = trained
    teacher = open_teacher(out)
    first = [group[0] for group in drawn[1].captions]
    texts = list(dict.fromkeys(first))
    nearest = (teacher.encode_image(drawn[1].images[:]) @ teacher.encode_text(texts).T).argmax(1)
    hits = np.mean([texts[n] == own for n, own in zip(nearest, first, strict=True)])
    assert hits == pytest.approx(result["val_recall@1"], abs=1.5 / len(first))  # one tie may fall otherwise


def test_both_tokenizers_agree_and_a_student_can_read_it(trained):
    out, _ = trained
    ours, theirs = Tokenizer.load(out), AutoTokenizer.from_pretrained(out)
    for text in ("a red circle at the top left", "Grün, 7 möglich"):
        assert theirs(text)["input_ids"] == ours.encode(text)[0].tolist()
    assert open_teacher(out).tokenizer_file == out / "tokenizer.json"


def test_labels_without_captions_become_prompts(drawn, tmp_path):
    learned, held = labelled(drawn[0]), labelled(drawn[1])
    result = train(learned, held, tmp_path / "t", epochs=16, **{**SMALL, "batch_size": 16, "lr": 1e-3})
    assert "val_recall@1" not in result
    assert result["val_acc1"] >= 0.9
    teacher = open_teacher(tmp_path / "t")
    classes = zero_shot_classifier(teacher, held.classnames, ["a photo of a {c}."])
    accuracy = zero_shot_metrics(embed_pictures(teacher, held), held.labels, classes)["acc1"]
    assert accuracy == pytest.approx(result["val_acc1"])


def test_equal_seeds_give_equal_teachers_wherever_they_are_saved(drawn, tmp_path):
    def fingerprint(name: str, seed: int) -> str:
        train(drawn[0], drawn[1], tmp_path / name, epochs=1, seed=seed, **SMALL)
        return open_teacher(tmp_path / name).fingerprint

    before = torch.random.get_rng_state()
    first = fingerprint("a", 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    assert fingerprint("deep/below/b", 0) == first
    assert fingerprint("c", 1) != first


def test_a_teacher_that_was_there_is_replaced_whole(drawn, tmp_path):
    out = tmp_path / "t"
    train(*drawn, out, epochs=1, **SMALL)
    before = open_teacher(out).fingerprint
    (out / "special_tokens_map.json").write_text("{}")
    train(*drawn, out, epochs=1, **{**SMALL, "seed": 1})
    assert sorted(file.name for file in out.iterdir()) == FILES
    assert open_teacher(out).fingerprint != before
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize("where", [(captions, "contrastive_loss"), (clip, "save_tokenizer")], ids=str)
def test_an_interruption_leaves_what_was_there(where, drawn, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    out = tmp_path / "t"
    train(*drawn, out, epochs=1, **SMALL)
    before = open_teacher(out).fingerprint
    monkeypatch.setattr(*where, interrupt)
    for name in ("t", "new"):
        with pytest.raises(KeyboardInterrupt):
            train(*drawn, tmp_path / name, epochs=1, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert open_teacher(out).fingerprint == before


def test_the_scale_stays_below_a_hundred(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "contrastive_loss", lambda image, text, scale, same: -scale.log())
    result = train(*drawn, tmp_path / "t", epochs=2, **{**SMALL, "lr": 0.3})
    assert result["logit_scale"] == pytest.approx(100)


def test_equal_captions_are_no_negatives(drawn, tmp_path, monkeypatch):
    seen = []
    honest = captions.contrastive_loss

    def watch(image_BD, text_BD, scale, same_BB):
        equal_BB = F.cosine_similarity(text_BD[:, None], text_BD[None], dim=-1) > 1 - 1e-5
        seen.append((same_BB.sum().item(), not bool((equal_BB & ~same_BB).any())))
        return honest(image_BD, text_BD, scale, same_BB)

    monkeypatch.setattr(captions, "contrastive_loss", watch)
    train(*drawn, tmp_path / "t", epochs=1, **SMALL)
    assert all(spared for _, spared in seen)
    assert max(count for count, _ in seen) > 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 40}, "width must be a multiple of 32, got 40"),
        ({"patch_size": 7}, "patch_size must divide the pictures' side of 32 pixels, got 7"),
        ({"epochs": 0}, "epochs must be a whole number between 1 and 100,000, got 0"),
        ({"batch_size": 1}, "batch_size must be a whole number between 2 and 1,000,000, got 1"),
        ({"vocab_size": 100}, "vocab_size must be a whole number between 259 and 1,000,000, got 100"),
        ({"lr": 1e3, "epochs": 9}, r"not a number at step \d+, .*; lower the learning rate"),
    ],
)
def test_settings_that_do_not_fit(change, message, drawn, tmp_path):
    with pytest.raises(InputError, match=message):
        train(*drawn, tmp_path / "t", **{"epochs": 1, **SMALL, **change})
    assert not list(tmp_path.iterdir())


def test_pictures_without_texts(drawn, tmp_path):
    bare = dataclasses.replace(drawn[0], captions=None, labels=None)
    with pytest.raises(InputError, match="a picture with neither a caption nor a label"):
        train(bare, drawn[1], tmp_path / "t", **SMALL)
    lacking = dataclasses.replace(drawn[0], captions=[[], *drawn[0].captions[1:]], labels=None)
    with pytest.raises(InputError, match="a picture with neither a caption nor a label"):
        train(lacking, drawn[1], tmp_path / "t", **SMALL)


def test_a_folder_of_something_else_is_spared(drawn, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(InputError, match="is not empty and not a teacher"):
            train(*drawn, out, **SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "three years"


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_log_moves_into_the_teacher(trained):
    out, result = trained
    logged = rows(out / "log")
    epochs = [row for row in logged if "epoch" in row]
    assert [row["val_recall@1"] for row in epochs] == [row["val_recall@1"] for row in result["history"]]
    assert [row["train_loss"] for row in epochs] == [row["loss"] for row in result["history"]]
    assert [row["step"] for row in logged if "loss" in row] == list(range(0, 10 * EPOCHS, loop.LOG_EVERY))
    assert list((out / "log" / "tensorboard" / "0-contrastive").iterdir())
    assert [path.name for path in out.parent.iterdir()] == ["t"]


@pytest.fixture
def stop_after(monkeypatch):
    """Ask the next training to stop after so many steps, as Ctrl-C does."""

    def stop_after(steps):
        calls = itertools.count(1)
        monkeypatch.setattr(
            session, "catch_signals", lambda: contextlib.nullcontext(lambda: next(calls) == steps)
        )

    return stop_after


def test_a_resumed_training_ends_with_the_same_teacher(drawn, tmp_path, stop_after):
    """Stopped twice, in the first epoch and in the second; there are ten steps in one."""
    settings = {"epochs": 3, **SMALL}
    whole = train(*drawn, tmp_path / "whole", **settings)
    stop_after(7)
    with pytest.raises(Interrupted, match=r"t\.training/checkpoint\.pt; continue with --resume"):
        train(*drawn, tmp_path / "t", **settings)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "t.training"}
    stop_after(8)
    with pytest.raises(Interrupted):
        train(*drawn, tmp_path / "t", resume=True, **settings)
    resumed = train(*drawn, tmp_path / "t", resume=True, **settings)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "t"))
    assert first == second
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}
    first, second = (
        [{**row, "samples_per_second": 0} for row in rows(tmp_path / name / "log")] for name in ("whole", "t")
    )
    assert first == second
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "t"}


def test_what_can_be_resumed(drawn, tmp_path, stop_after):
    settings = {"epochs": 1, **SMALL}
    with pytest.raises(InputError, match=r"nothing to resume in .*t\.training"):
        train(*drawn, tmp_path / "t", resume=True, **settings)
    stop_after(3)
    with pytest.raises(Interrupted):
        train(*drawn, tmp_path / "t", **settings)
    with pytest.raises(InputError, match=r"with other settings \(different: lr\)"):
        train(*drawn, tmp_path / "t", resume=True, **{**settings, "lr": 1e-3})
    with pytest.raises(InputError, match=r"with other settings \(different: pictures\)"):
        train(drawn[1], drawn[1], tmp_path / "t", resume=True, **settings)
    with pytest.raises(InputError, match="--resume continues it, --overwrite replaces it"):
        train(*drawn, tmp_path / "t", **settings)
    train(*drawn, tmp_path / "t", overwrite=True, **settings)
    assert [row["step"] for row in rows(tmp_path / "t" / "log")] == [0, 9]
    (tmp_path / "u.training").mkdir()
    (tmp_path / "u.training" / "thesis.txt").write_text("three years")
    with pytest.raises(InputError, match="is not empty and not a training"):
        train(*drawn, tmp_path / "u", **settings)
