"""An interrupted run that is resumed ends with the weights of one that was not."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from small_run import rows, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from spikeclip.config import RunConfig, from_dict
from spikeclip.errors import InputError
from spikeclip.train import loop
from spikeclip.train import run as run_module
from spikeclip.train.report import Report
from spikeclip.train.run import train_run

STAGES = [
    {"stage": "align_text", "epochs": 3, "batch_size": 31},
    {
        "stage": "align_image",
        "relu_first": 0.5,
        "loss": {"interactive": 0.5, "relational": 0.5},
        "optimizer": {"kind": "adafactor", "lr": 0.01},
    },
    {"stage": "finetune", "optimizer": {"kind": "muon", "lr": 0.05}},
]


class Killed(BaseException):
    """What stands in for a kill: nothing catches it."""


def arm_kill(patch, saves: int, more_rows: int) -> None:
    """End the run after so many checkpoints and then so many rows of the log."""
    save, row = run_module.save_checkpoint, Report.row
    left = [saves, more_rows]

    def count_save(path, state):
        if left[0]:
            save(path, state)
            left[0] -= 1
        if not left[0] and not more_rows:
            raise Killed

    def count_row(report, *given):
        row(report, *given)
        left[1] -= not left[0]
        if more_rows and not left[1]:
            raise Killed

    patch.setattr(run_module, "save_checkpoint", count_save)
    patch.setattr(Report, "row", count_row)


@pytest.fixture(autouse=True)
def event_files_in_order(monkeypatch):
    """A reader takes those of one second by a counter, as text: 10 before 9. Here runs restart at once."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(100))


@pytest.fixture(scope="module")
def values(recipe) -> dict:
    return recipe(*STAGES, checkpoint_minutes=0.0)


@pytest.fixture(scope="module")
def whole(values, tmp_path_factory):
    """(result, folder) of a run that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_EVERY", 1)
        folder = tmp_path_factory.mktemp("whole") / "run"
        return train_run(from_dict(RunConfig, values), folder, quiet=True, test=False), folder


def without(name: str, table: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != name} for row in table]


# The first stage writes 6 checkpoints and one at its end, the second 12 and one.
@pytest.mark.parametrize(
    "kills", [[(2, 0), (3, 3)], [(6, 0)], [(7, 0), (6, 0), (6, 1)], [(13, 0)], [(14, 2)]], ids=str
)
def test_a_resumed_run_repeats_nothing_and_forgets_nothing(kills, values, whole, tmp_path, monkeypatch):
    """Stopped once or more, inside a stage or between two, also with rows in the log after the checkpoint."""
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    folder = tmp_path / "run"

    def go(resume):
        return train_run(from_dict(RunConfig, values), folder, resume=resume, quiet=True, test=False)

    for i, kill in enumerate(kills):
        with monkeypatch.context() as patch:
            arm_kill(patch, *kill)
            with pytest.raises(Killed):
                go(resume=i > 0)
    result = go(resume=True)
    assert weights(folder) == weights(whole[1])
    assert without("seconds", result["stages"]) == without("seconds", whole[0]["stages"])
    assert without("samples_per_second", rows(folder)) == without("samples_per_second", rows(whole[1]))
    for stage in ("0-align_text", "1-align_image", "2-finetune"):
        boards = [EventAccumulator(str(f / "tensorboard" / stage)).Reload() for f in (folder, whole[1])]
        made, expected = ([(e.step, e.value) for e in board.Scalars("loss")] for board in boards)
        assert made == expected


def test_a_row_that_a_kill_cut_short_is_written_again(values, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    config, folder = from_dict(RunConfig, values), tmp_path / "run"
    with monkeypatch.context() as patch:
        arm_kill(patch, 9, 1)
        with pytest.raises(Killed):
            train_run(config, folder, quiet=True, test=False)
    log = folder / "metrics.jsonl"
    log.write_text(log.read_text().rstrip()[:-1])  # "rates" closes, the row does not
    train_run(config, folder, resume=True, quiet=True, test=False)
    assert without("samples_per_second", rows(folder)) == without("samples_per_second", rows(whole[1]))


LONG = [{**stage, "epochs": 8} for stage in STAGES[1:]]


@pytest.fixture
def start(recipe, tmp_path):
    """Start `spikeclip train` as a process."""
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe(*LONG, checkpoint_minutes=0.0)))

    def start(*arguments, out="run") -> subprocess.Popen:
        command = [sys.executable, "-m", "spikeclip", "train", "r.yaml", "--out", out, *arguments]
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def wait_for_stage(process: subprocess.Popen, folder, index: int) -> None:
    """Return once the stage has validated, so that it is under way and has a checkpoint."""
    log = folder / "metrics.jsonl"
    while not (log.exists() and f'"stage_index": {index}, "step": 5, "epoch": 1' in log.read_text()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


def test_ctrl_c_and_kill_9_of_a_process(start, tmp_path):
    folder, whole = tmp_path / "run", tmp_path / "whole"
    # A process too: in this one the engine may have run, and then PyTorch adds up with other threads.
    undisturbed = start(out="whole")
    undisturbed.communicate(timeout=240)
    assert undisturbed.returncode == 0
    process = start()
    wait_for_stage(process, folder, 0)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=240)
    assert (process.returncode, out) == (130, "")
    assert error.splitlines()[-1] == "stopped; the checkpoint is run/checkpoint.pt; continue with --resume"
    assert "Traceback" not in error
    assert (folder / "checkpoint.pt").is_file()
    assert len(torch.load(folder / "checkpoint.pt", weights_only=True)["done"]) == 0

    process = start("--resume")
    wait_for_stage(process, folder, 1)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "model").exists()

    process = start("--resume")
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert weights(folder) == weights(whole)
    assert "acc1" in out
    places = [(row["stage_index"], row["step"], "epoch" in row) for row in rows(folder)]
    assert places == sorted(set(places))


def test_a_resume_needs_a_run_and_the_same_recipe(run, tmp_path):
    stage = {"stage": "align_text", "epochs": 1}
    with pytest.raises(InputError, match="nothing to resume in"):
        run(stage, resume=True)
    _, folder = run(stage)
    with pytest.raises(InputError, match=r"started with other settings \(different: seed\)"):
        run(stage, resume=True, seed=1)
    with pytest.raises(
        InputError, match="already holds a run: --resume continues it, --overwrite replaces it"
    ):
        run(stage)
    before = weights(folder)
    run(stage, resume=True)  # there is nothing left to do
    assert weights(folder) == before
    (folder / "checkpoint.pt").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"checkpoint\.pt is not a readable checkpoint"):
        run(stage, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and not a run"):
        run(stage, out="other")


def test_overwrite_starts_anew(config, tmp_path):
    made = config({"stage": "align_text", "epochs": 1})
    train_run(made, tmp_path / "run", quiet=True, test=False)
    train_run(made, tmp_path / "run", overwrite=True, quiet=True, test=False)
    assert [row["epoch"] for row in rows(tmp_path / "run") if "epoch" in row] == [1]
    assert len(list((tmp_path / "run" / "tensorboard" / "0-align_text").iterdir())) == 1


def test_the_seed_decides_the_weights(run):
    stage = {"stage": "align_image", "epochs": 1}
    first, again, other = (
        weights(run(stage, out=out, seed=seed)[1]) for out, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again != other
