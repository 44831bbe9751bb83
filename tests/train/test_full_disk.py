"""A full disk ends a training with one line; with room again it goes on, to the same weights."""

import contextlib
import os
import subprocess
import sys
import time

import pytest
import yaml
from small_run import rows, weights

STAGES = [{"stage": "align_text", "epochs": 8, "batch_size": 31}, {"stage": "finetune", "epochs": 4}]


@pytest.fixture
def disk(tmp_path):
    """A disk of 16 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root mounts a disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(file) -> None:
    """Take all the room that is left."""
    with file.open("ab", buffering=0) as rest, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while rest.write(b"0" * size) == size:
                    pass


def test_a_training_meets_a_full_disk(recipe, disk, tmp_path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe(*STAGES, checkpoint_minutes=0.0)))

    def start(out, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "spikeclip", "train", "r.yaml", "--out", str(out), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    run = disk / "run"
    process = start(run)
    while not (run / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    fill(disk / "filler")
    error = process.communicate(timeout=240)[1]
    assert process.returncode == 1, error
    assert error.count("Error:") == 1
    assert "the disk is full" in error.splitlines()[-1]
    assert "Traceback" not in error
    assert "please report" not in error
    assert {file.name for file in run.iterdir()} <= {
        "recipe.json",
        "checkpoint.pt",
        "metrics.jsonl",
        "tensorboard",
    }

    (disk / "filler").unlink()
    process = start(run, "--resume")
    error = process.communicate(timeout=240)[1]
    assert process.returncode == 0, error
    whole = start(tmp_path / "whole")
    error = whole.communicate(timeout=240)[1]
    assert whole.returncode == 0, error
    assert weights(run) == weights(tmp_path / "whole")
    assert [row["step"] for row in rows(run)] == [row["step"] for row in rows(tmp_path / "whole")]
