"""The folder of a training: who may train in it, what is removed from it, and what damage leads to."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_run import rows, weights

import spikeclip.files
from spikeclip.config import ModelSettings
from spikeclip.data.mixture import load_sources
from spikeclip.errors import InputError
from spikeclip.train import folder as folder_module
from spikeclip.train import loop
from spikeclip.train import run as run_module
from spikeclip.train.checkpoint import FORMAT
from spikeclip.train.folder import clear, foreign, locked
from spikeclip.train.run import train_run

STAGE = {"stage": "align_text", "epochs": 1}

HOLD = """
import sys, time
from pathlib import Path
from spikeclip.train.folder import locked
with locked(Path(sys.argv[1]), "run"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds `tmp_path`/run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_one_process_at_a_time(holder, run, tmp_path):
    for resume in (False, True):
        with pytest.raises(
            InputError, match=rf"process {holder.pid} on .* trains in .*run: wait for its end"
        ):
            run(STAGE, resume=resume)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    run(STAGE)  # a kill frees it
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_running_run_is_not_overwritten(run, config, tmp_path):
    _, folder = run(STAGE)
    before = weights(folder)
    with locked(folder, "run"), pytest.raises(InputError, match="trains in"):
        train_run(config(STAGE), folder, overwrite=True, quiet=True, test=False)
    assert weights(folder) == before
    assert (folder / "checkpoint.pt").is_file()


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path):
    with locked(tmp_path, "run"):
        (tmp_path / ".lock").unlink()
        with locked(tmp_path, "run"), pytest.raises(InputError), locked(tmp_path, "run"):
            pass


@pytest.mark.parametrize("lacks", ["module", "service"])
def test_without_locks_there_is_a_warning(lacks, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    if lacks == "module":
        monkeypatch.setattr(spikeclip.files, "fcntl", None)
    else:
        monkeypatch.setattr(spikeclip.files.fcntl, "flock", refuse)
    with (
        pytest.warns(UserWarning, match=r"cannot be locked \(.*\): see to it that no other"),
        locked(tmp_path / "run", "run"),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_overwrite_removes_only_what_a_run_writes(run, config, tmp_path):
    _, folder = run(STAGE)
    mine = [
        folder / name for name in ("thesis.txt", "photos/cat.jpg", "model/notes.md", "tensorboard/mine.txt")
    ]
    for file in mine:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "image.json").write_text("{}")
    (folder / "model" / "graph").symlink_to(elsewhere)
    (folder / "checkpoint.pt").write_bytes(b"of the earlier run")
    train_run(config(STAGE, seed=1), folder, overwrite=True, quiet=True, test=False)
    assert [file.read_text() for file in mine] == ["mine"] * 4
    assert (elsewhere / "image.json").is_file()
    assert json.loads((folder / "recipe.json").read_text())["seed"] == 1
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["done"]


def test_what_no_run_wrote_is_no_run(run, config, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "recipe.json").write_text('{"flour": "500 g"}')
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is not empty and not a run"):
            train_run(config(STAGE), folder, overwrite=overwrite, quiet=True, test=False)
    assert {file.name for file in folder.iterdir()} == {"recipe.json", "notes.txt"}


def test_links_are_not_written_through(run, tmp_path):
    folder, mine = tmp_path / "run", tmp_path / "mine"
    mine.write_text("three years")
    (tmp_path / "elsewhere").mkdir()
    folder.mkdir()
    for name, target in (
        (".lock", mine),
        ("model", tmp_path / "elsewhere"),
        ("tensorboard", tmp_path / "elsewhere"),
    ):
        (folder / name).symlink_to(target)
        with pytest.raises(InputError, match="is a symbolic link"):
            run(STAGE)
        (folder / name).unlink()
    assert mine.read_text() == "three years"


def test_clear_leaves_no_empty_folders_and_nothing_that_a_run_writes(run):
    _, folder = run({**STAGE, "stage": "align_image"})
    assert foreign(folder, folder_module.RUN) == []
    clear(folder)
    assert list(folder.iterdir()) == []


def test_a_start_that_fails_changes_nothing(run, config, tmp_path, monkeypatch):
    bad = {"data": {"test_split": "tset"}, "test": True}
    with pytest.raises(InputError, match=r"data\.test_split: .* has no split 'tset'"):
        run(STAGE, **bad)
    assert list(tmp_path.iterdir()) == []
    _, folder = run(STAGE)
    before = weights(folder)
    with pytest.raises(InputError, match="no split 'tset'"):
        train_run(config(STAGE, data={"test_split": "tset"}), folder, overwrite=True, quiet=True)
    assert weights(folder) == before


def test_a_missing_model_to_start_from_does_not_suggest_the_folder_of_the_run(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = replace(config(STAGE), model=ModelSettings(pretrained="runs/own-start"))
    with pytest.raises(InputError, match="no such folder: 'runs/own-start'; a name on"):
        train_run(start, Path("runs/own"), quiet=True, test=False)
    assert list(tmp_path.iterdir()) == []


def test_a_test_split_of_one_class_is_refused_before_anything_trains(run, monkeypatch, tmp_path):
    def one_class(*arguments):
        pictures = run_module.join(load_sources(*arguments))
        return [replace(pictures, labels=pictures.labels * 0, classnames=["red star"])]

    monkeypatch.setattr(run_module, "load_sources", one_class)
    with pytest.raises(
        InputError, match=r"data\.test_split: every label of .* is 'red star'; one class is no"
    ):
        run(STAGE, data={"test_split": "test"}, test=True)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_never_came_to_a_checkpoint_blocks_nothing(run, monkeypatch):
    def spoil(*_):
        raise InputError("the loss is not a number")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_validate", spoil)
        with pytest.raises(InputError, match="the loss is not a number"):
            run(STAGE, seed=1)
    _, folder = run(STAGE)
    assert [row["epoch"] for row in rows(folder) if "epoch" in row] == [1]


def test_a_stage_is_checked_before_the_first_one_trains(run, monkeypatch, tmp_path):
    trained = []
    monkeypatch.setattr(run_module, "run_stage", lambda *given, **named: trained.append(given))
    last = {"stage": "align_image", "batch_size": 1, "loss": {"relational": 1.0}}
    with pytest.raises(InputError, match="a batch of 1 has nothing to compare with"):
        run(STAGE, last)
    with pytest.raises(InputError, match="stage finetune needs a teacher"):
        run({"stage": "contrastive"}, {"stage": "finetune"}, teacher=False)
    assert trained == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_lacks_only_its_test_is_finished(run, config, monkeypatch):
    made = {"data": {"test_split": None}}
    _, folder = run(STAGE, **made)
    before = weights(folder)
    monkeypatch.setattr(run_module, "run_stage", lambda *_: pytest.fail("it is trained already"))
    result = train_run(config(STAGE), folder, resume=True, quiet=True)
    assert result["test"]["provenance"]["data"]["split"] == "test"
    assert weights(folder) == before
    assert json.loads((folder / "recipe.json").read_text())["data"]["test_split"] == "test"
    assert train_run(config(STAGE, **made), folder, resume=True, quiet=True)["test"] is None


def test_other_pictures_cannot_be_resumed_with(run, prepared):
    _, folder = run(STAGE)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    made = prepared(STAGE)
    splits = made.pictures.splits
    now = {split: part.fingerprint for split, part in splits.items()}
    assert state["pictures"] == {**now, "lessons": made.lessons.fingerprint}
    state["pictures"]["train"] = splits["train"].subset(range(100)).fingerprint
    torch.save({"format": FORMAT, **state}, folder / "checkpoint.pt")
    with pytest.raises(InputError, match=r"the pictures are not what the run in .* began with"):
        run(STAGE, resume=True)


def test_another_teacher_at_the_same_place_cannot_be_resumed_with(run, root, tmp_path):
    table = tmp_path / "table.npz"
    with np.load(root / "table.npz") as saved:
        held = {name: saved[name] for name in saved.files}
    np.savez(table, **held)
    teacher = {"path": str(table), "logit_scale": 10.0}
    run(STAGE, teacher=teacher)
    run(STAGE, teacher=teacher, resume=True)
    np.savez(table, **{**held, "embeddings": held["embeddings"][::-1]})
    with pytest.raises(
        InputError, match=r"the teacher, the tokenizer or the texts are not what .* began with"
    ):
        run(STAGE, teacher=teacher, resume=True)


def test_another_start_at_the_same_place_cannot_be_resumed_with(run, config, tmp_path):
    """Its weights are in the checkpoint, its neurons are not."""
    _, start = run(STAGE, out="start")
    made = replace(config(STAGE), model=ModelSettings(pretrained=str(start / "model")))
    train_run(made, tmp_path / "next", quiet=True, test=False)
    file = start / "model" / "config.json"
    file.write_text(file.read_text().replace('"D": 4', '"D": 2'))
    with pytest.raises(
        InputError, match=r"the model in model\.pretrained is not what the run in .* began with"
    ):
        train_run(made, tmp_path / "next", resume=True, quiet=True, test=False)


@pytest.mark.parametrize(
    "change",
    [{"feed": "mapped"}, {"recompute": True}, {"checkpoint_minutes": 1.0}, {"data": {"cache": "elsewhere"}}],
    ids=str,
)
def test_a_run_goes_on_with_other_settings_of_the_machine(change, run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run(STAGE)
    run(STAGE, resume=True, **change)
    with pytest.raises(InputError, match=r"\(different: precision\): it goes on with the same ones; remove"):
        run(STAGE, resume=True, precision="bf16", **change)


def test_a_stage_that_a_saved_model_cannot_have_is_refused_before_the_first_one_trains(run, config, tmp_path):
    _, folder = run(STAGE, out="start")
    late = replace(
        config(STAGE, {"stage": "finetune", "augment": {"crop": 40}}),
        model=ModelSettings(pretrained=str(folder / "model")),
    )
    with pytest.raises(InputError, match=r"stages\.1\.augment: crop must be below"):
        train_run(late, tmp_path / "late", quiet=True, test=False)
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"[]", lambda b: b"\xff"]
)
def test_a_damaged_recipe_is_named(damage, run):
    _, folder = run(STAGE)
    file = folder / "recipe.json"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=r"recipe\.json.*: it is damaged; --overwrite starts anew"):
        run(STAGE, resume=True)


@pytest.mark.parametrize("lacking", ["done", "weights", "stage", "pictures"])
def test_a_checkpoint_without_a_key_is_named(lacking, run):
    _, folder = run(STAGE)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    del state[lacking]
    torch.save(state, folder / "checkpoint.pt")
    with pytest.raises(InputError, match=rf"checkpoint\.pt .*it lacks {lacking}\): remove it to start anew"):
        run(STAGE, resume=True)


@pytest.mark.parametrize(
    "stage", [{}, {"progress": {"step": 1}}, "weights", {"progress": {}, "model": {}, "optimizers": 3}]
)
def test_a_checkpoint_that_does_not_fit_is_one_line(stage, run):
    _, folder = run(STAGE)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    torch.save({**state, "done": [], "stage": stage}, folder / "checkpoint.pt")
    with pytest.raises(InputError, match="the checkpoint does not fit this training"):
        run(STAGE, resume=True)


def test_a_checkpoint_of_other_weights_is_one_line(run):
    _, folder = run(STAGE)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    for broken in ({"log_scale": torch.zeros(3)}, 7):
        torch.save({**state, "weights": broken}, folder / "checkpoint.pt")
        with pytest.raises(InputError, match="the checkpoint does not fit this training"):
            run(STAGE, resume=True)


def test_damaged_rows_of_the_log_are_counted_and_the_run_goes_on(config, tmp_path, capfd):
    made, folder = config(STAGE), tmp_path / "run"
    train_run(made, folder, quiet=True, test=False)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    torch.save({**state, "done": []}, folder / "checkpoint.pt")  # its stage is trained again
    (folder / "metrics.jsonl").write_bytes(b'3\n{"step": "x"}\n\xff\xfe\n{"stage_index": 0, "st')
    train_run(made, folder, resume=True, test=False)
    assert "metrics.jsonl: 3 lines are no rows of a log" in capfd.readouterr().err.replace("\n", "")
    assert [row["epoch"] for row in rows(folder) if "epoch" in row] == [1]


def test_leftovers_of_a_kill_are_removed(run, config):
    _, folder = run(STAGE)
    left = [
        folder / name
        for name in (".checkpoint.pt.0a1b.tmp", ".results.json.ff.tmp", "model/.saving-x/config.json")
    ]
    for file in left:
        file.parent.mkdir(exist_ok=True)
        file.write_text("half of")
    run(STAGE, resume=True)
    assert not any(file.exists() for file in left)
    assert not (folder / "model" / ".saving-x").exists()
