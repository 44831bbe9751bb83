"""The benchmark of a GPU works where there is none, and judges nothing that was not measured."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.measure import SMALL, Measurement
from benchmarks.gpu.neuron import TENSORS
from benchmarks.gpu.plan import measurements
from benchmarks.gpu.targets import TARGETS, over_floor
from spikeclip.neurons import functional

ROOT = Path(__file__).parents[2]
needs_triton = pytest.mark.skipif(
    not functional._HAS_TRITON, reason="Triton is not installed (it is for Linux on x86-64)"
)


@needs_triton
def test_one_command_checks_measures_and_writes(tmp_path):
    only = [
        "agreement: I-LIF",
        "command: its",
        "copy",
        "T=4, ours",
        "T=4, SpikingJelly cupy",
        "tiny I-LIF, bf16, comp",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--small", "--only", *only, "--out", tmp_path / "gpu.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    rows = record["rows"]
    for name in ("agreement: I-LIF", "agreement: I-LIF, learned range"):
        assert rows[name]["differ"] == 0
        assert rows[name]["spikes"] > 1000
        assert rows[name]["gradient_error"]["float32"] < 1e-3
    assert rows["command: its bare step"]["pictures_per_second"] > 0
    assert rows["step: spikeclip-tiny I-LIF, bf16, compiled"]["batch"] == SMALL.batches["spikeclip-tiny"]
    assert rows["neuron: LIF T=4, ours"]["bytes"] == TENSORS * 4 * SMALL.neurons * 4
    absent = rows["neuron: LIF T=4, SpikingJelly cupy"]  # no CuPy, or no SpikingJelly, or no GPU
    assert absent["status"] == "not measured"
    assert absent["why"] in done.stdout
    card = record["provenance"]["card"]
    assert card.keys() == {"name", "driver", "memory_bytes", "cuda", "triton", "date"}
    if card["name"] is None:
        assert {row["met"] for row in record["targets"]} == {"not measured"}


def test_what_breaks_its_process_or_comes_too_late_is_named_and_the_rest_goes_on(monkeypatch):
    def start(names, *_, **__):
        code = {
            "breaks": "import os; os._exit(9)",
            "hangs": "import time; time.sleep(60)",
            "works": 'print(\'{"name": "works", "status": "measured"}\')',
        }[names[0]]
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, bufsize=0)

    monkeypatch.setattr(command, "_start", start)
    monkeypatch.setattr(command, "LONGEST", 2.0)
    wanted = {name: Measurement(lambda size: {}) for name in ("breaks", "hangs", "works")}
    options = argparse.Namespace(small=True)
    rows = dict(command._measured(wanted, options, deadline=command.time.monotonic() + 500))
    assert rows["breaks"]["why"] == "its process ended with status 9"
    assert rows["hangs"]["why"] == "no answer in 2 s"
    assert rows["works"] == {"status": "measured"}
    assert dict(command._measured(wanted, options, deadline=command.time.monotonic())) == {}


def test_every_target_is_about_measurements_that_exist():
    names = measurements()

    class Found(dict):
        def __contains__(self, name):
            assert name in names
            return True

        def get(self, name, default=None):
            return self[name]

        def __missing__(self, name):
            assert name in names
            return {
                "seconds": 2.0,
                "bytes": 100,
                "bytes_per_second": 50,
                "pictures_per_second": 3e5,
                "peak_bytes": 7,
            }

    values = [target.row(Found())["value"] for target in TARGETS]
    assert values == [3e5, 1, 1, 1, 1, 1, 1, 1]
    assert [target.row({})["met"] for target in TARGETS] == ["not measured"] * len(TARGETS)


def test_targets_are_met_from_their_side():
    speed, *_, floor = TARGETS
    for value, met in ((59_999, "no"), (60_000, "aim")):
        assert (
            speed.row({"command: spikeclip-tiny fine-tuning": {"pictures_per_second": value}})["met"] == met
        )
    copy = {"bytes_per_second": 10}
    for seconds, met in ((21, "no"), (20, "at least"), (13, "aim")):
        neurons = {f"neuron: LIF T={T}, ours": {"seconds": seconds, "bytes": 100} for T in (4, 8, 16)}
        found = {"copy": copy, **neurons}
        assert over_floor(found, "neuron: LIF T=8, ours") == seconds / 10
        assert floor.row(found)["met"] == met
        assert floor.row({**neurons})["met"] == "not measured"
