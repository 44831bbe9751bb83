"""Two processes train the network that one trains."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import small_run
import torch
from safetensors.torch import load_file
from small_run import rows

STAGES = [
    {"stage": "align_text", "batch_size": 10, "loss": {"interactive": 0.5, "relational": 0.5}},
    {"stage": "align_image", "loss": {"interactive": 0.5, "relational": 0.5, "rate": 0.1}},
    {"stage": "finetune", "optimizer": {"kind": "muon", "lr": 0.02, "scalar_lr": 0.002, "clip_norm": 1.0}},
    {"stage": "contrastive", "loss": {"contrastive": "sigmoid"}},
]

FILE = "model.safetensors"


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_two_processes_are_one(recipe, prepared, port, tmp_path, monkeypatch):
    # The ReLU twin: a spike that rounding flips would hide what this compares.
    stages = [{"batch_size": 54, "epochs": 1, "optimizer": {"lr": 1e-3}, **stage} for stage in STAGES]
    values = recipe(*stages, model={"neuron": "relu"}, data={"cache": str(tmp_path / "cache")})
    (tmp_path / "recipe.json").write_text(json.dumps(values))
    script = str(Path(small_run.__file__))
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    processes = []
    for rank in range(2):
        arguments = [sys.executable, script, "recipe.json", "two", f"said{rank}.json"]
        own = {
            **os.environ,
            **environment,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "ACCELERATE_USE_CPU": "1",
        }
        processes.append(
            subprocess.Popen(arguments, cwd=tmp_path, env=own, stderr=subprocess.PIPE, text=True)
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as there; what ran before in this process must not change the order of sums
    with monkeypatch.context() as patch:
        patch.setattr(small_run.loop, "LOG_EVERY", 1)
        small_run.run(values, tmp_path / "one" / "whole")
    torch.set_num_threads(threads)
    for process in processes:
        error = process.communicate(timeout=240)[1]
        assert process.returncode == 0, error

    one, two = rows(tmp_path / "one" / "whole"), rows(tmp_path / "two" / "whole")
    assert {row["stage"] for row in one} == {stage["stage"] for stage in STAGES}
    assert [row["step"] for row in two] == [row["step"] for row in one]
    for a, b in zip(one, two, strict=True):
        losses = {k for k in a if k not in ("rates", "samples_per_second") and not isinstance(a[k], str)}
        # Adam's first steps are signs of gradients: the rounding of another order of sums grows, to thousandths in
        # the last stage, which starts with no gradient to speak of. A process that went its own way differs by tens
        # of percent.
        rel = 2e-2 if a["stage"] == "contrastive" else 1e-3
        expected = {
            k: pytest.approx(a[k], rel=rel, abs=1e-2 if k.startswith("val") else 1e-6) for k in losses
        }
        assert {k: b[k] for k in losses} == expected, a
    start = prepared(*stages, model={"neuron": "relu"})[2].state_dict()
    first, second = (load_file(tmp_path / name / "whole" / "model" / FILE) for name in ("one", "two"))
    for tower in ("image", "text", "log_scale", "logit_bias"):
        names = [name for name in first if name.split(".")[0] == tower and first[name].is_floating_point()]
        moved, apart = (
            torch.cat([(b[name] - a[name]).flatten() for name in names]).norm().item()
            for a, b in ((start, first), (first, second))
        )
        assert apart < 0.03 * moved, tower

    for rank in range(2):
        said = json.loads((tmp_path / f"said{rank}.json").read_text())
        assert said["uneven"] == "batch size 15 does not divide among 2 processes"
        assert said["stopped after"] == 3
    assert torch.load(tmp_path / "two" / "stopped" / "checkpoint.pt", weights_only=True)
