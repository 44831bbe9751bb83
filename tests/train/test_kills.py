"""kill -9 at any moment: what is resumed or repeated ends as what nobody disturbed.

SPIKECLIP_KILLS: how many moments of each, drawn by a seed.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from small_run import teacher, weights

KILLS = int(os.environ.get("SPIKECLIP_KILLS", "2"))
STAGES = [
    {"stage": "align_text", "epochs": 2, "batch_size": 31},
    {"stage": "finetune", "epochs": 3, "recompute_statistics": True},
]


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "spikeclip", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> str:
    """Wait for the end; return the error, which is empty where there was none."""
    error = process.communicate(timeout=240)[1]
    return error if process.returncode else ""


def kill_when(process: subprocess.Popen, begun, seconds: float) -> bool:
    """Kill a process some time after `begun`(); return whether it was still running."""
    while not begun() and process.poll() is None:
        time.sleep(0.005)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    error = process.communicate()[1]
    assert process.returncode <= 0, error
    return process.returncode < 0


def test_a_run(recipe, tmp_path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe(*STAGES, checkpoint_minutes=0.0)))

    def train(out: str, *options: str) -> subprocess.Popen:
        return start(tmp_path, "train", "r.yaml", "--out", out, *options)

    process = train("whole")
    begun = (tmp_path / "whole" / "recipe.json").is_file
    while not begun() and process.poll() is None:
        time.sleep(0.005)
    began = time.monotonic()
    assert finish(process) == ""
    length = time.monotonic() - began
    draw = random.Random(0)
    for i in range(KILLS):
        out, moments, options = tmp_path / f"run{i}", [], []
        for _ in range(1 + i % 2):  # once, or twice in a row
            moments.append(draw.uniform(0, length))
            while not kill_when(train(out.name, *options), (out / "recipe.json").is_file, moments[-1]):
                shutil.rmtree(out)  # faster than the whole run was: from the beginning, and killed earlier
                moments[-1], options = moments[-1] / 2, []
            options = ["--resume"]
        error = finish(train(out.name, "--resume"))
        assert error == "", moments
        assert weights(out) == weights(tmp_path / "whole"), moments
        assert not list(out.glob(".*")), moments


def test_teacher_embed(root, tmp_path):
    teacher(tmp_path / "teacher")

    def embed(out: str, cache: str) -> subprocess.Popen:
        options = [
            "--data",
            str(root / "pictures"),
            "--augmentations",
            "8",
            "--batch-size",
            "4",
            "--cache",
            cache,
        ]
        return start(tmp_path, "teacher", "embed", "teacher", *options, "--out", out)

    process = embed("whole.npz", "cache")
    store = tmp_path / "cache" / "embeddings"
    while not store.exists() and process.poll() is None:
        time.sleep(0.005)
    began = time.monotonic()
    assert finish(process) == ""
    length = time.monotonic() - began
    draw = random.Random(1)
    for i in range(KILLS):
        moment, out, cache = draw.uniform(0, length), tmp_path / f"table{i}.npz", f"cache{i}"
        while not kill_when(embed(out.name, cache), (tmp_path / cache / "embeddings").exists, moment):
            shutil.rmtree(tmp_path / cache)  # as above
            out.unlink()
            moment /= 2
        if not out.exists():
            assert finish(embed(out.name, cache)) == "", moment
        assert out.read_bytes() == (tmp_path / "whole.npz").read_bytes(), moment


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_partial_table_that_lost_its_end_is_computed_again(size, tmp_path):
    """A journal that says more than its file holds, as after a power cut: rows are never made of zeros."""
    import numpy as np

    from spikeclip.teacher import cache

    def rows(count: int):
        calls = []

        def embed(part: slice) -> np.ndarray:
            if len(calls) == count:
                raise KeyboardInterrupt
            calls.append(part)
            return np.arange(part.start, part.stop, dtype=np.float32)[:, None] + np.ones((1, 8), np.float32)

        return embed

    settings = {"shape": (40, 8), "file": tmp_path / "x.npy", "chunk": 4, "dtype": "float32", "label": None}
    with pytest.raises(KeyboardInterrupt):
        cache.cached_rows(rows(5), **settings)
    partial = tmp_path / "x.npy.partial"
    partial.write_bytes(partial.read_bytes()[:size])
    np.testing.assert_array_equal(cache.cached_rows(rows(99), **settings), rows(99)(slice(0, 40)))
