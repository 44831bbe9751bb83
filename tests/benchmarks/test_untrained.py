"""Towers with random weights fire as wished, and the engine's race against the twin runs from nothing but them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.untrained import fit_density, fit_rate, random_model
from spikeclip.neurons import record

ROOT = Path(__file__).parents[2]
TOWERS = {
    "spikeclip-base": {"image": {"widths": [8, 16, 16, 32, 32], "depth": 1, "num_heads": 4, "mlp_ratio": 2}},
    "spikeclip-tiny": {"image": {"widths": [16, 32, 32]}},
}


def made(preset, neuron, **changes):
    model = random_model(preset, neuron=neuron, **changes, **TOWERS[preset])
    return model, torch.randn(32, 3, 32, 32)  # the background of drawn shapes fires all at once or not at all


def fired(model, images_BCHW, statistic):
    with torch.no_grad(), record(model.image, statistic) as found:
        model.image(images_BCHW)
    # Attention's currents are few whole numbers, and whitened pixels have no BatchNorm that shifts them.
    exact = [name for name in found if "product" not in name and "whiten" not in name]
    assert len(exact) >= 6
    return np.array([found[name] for name in exact])


@pytest.mark.parametrize("preset", TOWERS)
@pytest.mark.parametrize("density", [0.5, 0.05])
def test_as_many_integer_neurons_fire_as_were_asked_for(preset, density):
    model, images_BCHW = made(preset, "ilif", T=1, D=4)
    fit_density(model, images_BCHW, density)
    share = fired(model, images_BCHW, lambda _, s_TX: (s_TX > 0).float().mean())
    np.testing.assert_allclose(share, density, rtol=0.05)  # statistics in evaluation differ a little
    spikes = fired(model, images_BCHW, lambda neuron, s_TX: neuron.levels * s_TX.mean()) / share
    assert (spikes > 1.2).all()
    assert (spikes < 1.8).all()


@pytest.mark.parametrize("preset", TOWERS)
def test_lif_neurons_fire_at_the_rate_that_was_asked_for(preset):
    model, images_BCHW = made(preset, "lif", T=2)
    fit_rate(model, images_BCHW, 0.2)
    np.testing.assert_allclose(fired(model, images_BCHW, lambda _, s_TX: s_TX.mean()), 0.2, rtol=0.05)


def test_one_command_races_the_engine_against_the_faster_twin(tmp_path):
    for package in ("onnxruntime", "onnx", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    words = (
        "twin --towers demo --density 30 --batch 2 --threads 1 --repeats 1 --seconds 0.01 --data shapes --out"
    )
    command = [sys.executable, "-m", "benchmarks.scaling", *words.split(), str(tmp_path / "twin.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads((tmp_path / "twin.json").read_text())["passes"]
    assert (found["tower"], found["batch"]) == ("demo", 2)
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["twin, OpenVINO int8", "twin, ONNX Runtime int8", "engine int8, 30 %"]
    assert all(row["status"] == "ready" for row in rows.values())
    faster = max(rows[name]["images_per_second"] for name in rows if name.startswith("twin"))
    engine = rows["engine int8, 30 %"]
    assert engine["speed_over_faster_twin"] == pytest.approx(engine["images_per_second"] / faster)
    assert engine["notes"].keys() == {"runs"}
    assert engine["density"] == pytest.approx(0.3, abs=0.03)


def test_a_density_that_no_layer_has_is_refused():
    command = [sys.executable, "-m", "benchmarks.scaling", "twin", "--density", "0.3", "100"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: --density is in %, above 0 and below 100, got 100"
