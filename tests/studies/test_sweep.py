"""A sweep trains every strength and both twins once, and goes on where it stopped."""

import json

import pytest

from spikeclip.energy import load_conventions
from spikeclip.errors import InputError
from spikeclip.studies import grid
from spikeclip.studies.sweep import _twins, run_sweep
from spikeclip.train.folder import locked
from spikeclip.train.session import Interrupted

STAGES = [
    {"stage": "align_text"},
    {"stage": "finetune", "epochs": 5, "optimizer": {"kind": "muon", "lr": 0.05}},
]


def test_a_sweep_and_its_continuation(config, tmp_path, monkeypatch):
    made, train, trained = config(*STAGES), grid.train_run, []

    def train_run(config, out, **settings):
        if len(trained) == 2:
            trained.append("stop")
            raise Interrupted
        trained.append((out.name, config.stages[-1].loss.rate))
        return train(config, out, **settings)

    monkeypatch.setattr(grid, "train_run", train_run)
    with pytest.raises(Interrupted, match="stopped; the same command continues"):
        run_sweep(made, tmp_path, [0.0, 3.0], load_conventions(), quiet=True)
    result = run_sweep(made, tmp_path, [0.0, 3.0], load_conventions(), quiet=True)
    assert trained == [("rate-0", 0.0), ("rate-3", 3.0), "stop", ("relu", 0.0), ("quant_relu", 0.0)]
    assert result == json.loads((tmp_path / "sweep.json").read_text())
    names = ["rate-0", "rate-3", "ANN twin, fp32", "ANN twin, int8", "ANN twin, 3-bit activations"]
    assert [row["name"] for row in result["networks"]] == names
    dense, sparse, *twins = result["networks"]
    assert sparse["rate"] < dense["rate"]
    assert sparse["joules"]["L1"] < dense["joules"]["L1"]
    assert all(0 <= row["accuracy"] <= 1 for row in result["networks"])
    assert all(row["interval"] >= 0 for row in result["networks"])
    assert twins[0]["accuracy"] == twins[1]["accuracy"]
    for level in ("L1", "L2-tiled", "L2-no-reuse"):
        assert (tmp_path / f"tradeoff-{level}.png").stat().st_size > 5000
    with pytest.raises(InputError, match="trained with another recipe"):
        run_sweep(config(*STAGES, seed=1), tmp_path, [0.0], load_conventions(), quiet=True)


def test_one_sweep_at_a_time_in_a_folder(config, tmp_path):
    with locked(tmp_path, "sweep"), pytest.raises(InputError, match=r"trains in .*: wait for its end"):
        run_sweep(config(*STAGES), tmp_path, [0.0], load_conventions(), quiet=True)


def test_a_damaged_result_says_what_to_do(config, tmp_path):
    (tmp_path / "rate-0").mkdir()
    for text in ("", "{", "{}", "[]"):
        (tmp_path / "rate-0" / "results.json").write_text(text)
        with pytest.raises(
            InputError, match=r"results\.json.*: delete it, and the same command makes it anew"
        ):
            run_sweep(config(*STAGES), tmp_path, [0.0], load_conventions(), quiet=True)


def test_the_quantised_twin_has_as_many_values_at_every_place(config):
    model = {"neuron": "ilif", "T": 2, "D": 4, "first_D": [16, 8]}
    twin = _twins(config(*STAGES, model=model))["quant_relu"].model.resolve().neuron
    assert (twin.T, twin.D, twin.first_D) == (1, 8, (32, 16))


def test_what_cannot_be_swept(config, tmp_path):
    for made, strengths, message in (
        (config(*STAGES), [], "different strengths"),
        (config(*STAGES), [0.1, 0.1], "different strengths"),
        (config(*STAGES), [0.1, -1.0], r"stages\.1\.loss\.rate must be a number between 0 and 1,000, got -1"),
        (config(*STAGES[:1]), [0.1], "last stage is finetune, not align_text"),
        (config(*STAGES, model={"neuron": "relu"}), [0.1], "relu does not spike"),
    ):
        with pytest.raises(InputError, match=message):
            run_sweep(made, tmp_path, strengths, load_conventions(), quiet=True)
