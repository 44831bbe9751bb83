"""Checkpoints survive an interruption at any byte."""

import os

import pytest
import torch

from spikeclip.errors import InputError
from spikeclip.train import checkpoint as module
from spikeclip.train.checkpoint import load_checkpoint, save_checkpoint

STATE = {"weights": torch.arange(6.0).view(2, 3), "done": [{"stage": "finetune", "best": 0.5}]}


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", STATE)
    return tmp_path / "checkpoint.pt"


def is_whole(path) -> bool:
    state = load_checkpoint(path)
    return torch.equal(state["weights"], STATE["weights"]) and state["done"] == STATE["done"]


def test_round_trip(path):
    assert is_whole(path)
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("failure", [OSError("No space left on device"), KeyboardInterrupt()])
def test_a_failure_half_way_leaves_the_last_good_one(failure, path, monkeypatch):
    def save(state, file):
        file.write(b"half of a")
        raise failure

    monkeypatch.setattr(module.torch, "save", save)
    with pytest.raises(type(failure)):
        save_checkpoint(path, {"weights": torch.zeros(1)})
    assert is_whole(path)


def test_what_a_kill_left_behind_is_no_obstacle(path):
    leftover = path.with_name(f".{path.name}.0123abcd.tmp")
    leftover.write_bytes(path.read_bytes()[:100])
    os.utime(leftover, (0, 0))
    assert is_whole(path)
    save_checkpoint(path, STATE)
    assert is_whole(path)
    assert not leftover.exists()


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * len(b)])
def test_a_damaged_checkpoint_is_named(damage, path):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"checkpoint.pt is not a readable checkpoint"):
        load_checkpoint(path)


def test_a_checkpoint_runs_no_code(path):
    class Harmful:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    torch.save({"weights": Harmful()}, path)
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_checkpoint(path)


def test_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="nothing to resume"):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_a_checkpoint_of_another_version_is_refused(path):
    torch.save(STATE, path)
    with pytest.raises(InputError, match="written by another version"):
        load_checkpoint(path)
