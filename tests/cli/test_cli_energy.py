"""`spikeclip verify` and `spikeclip energy` as a user runs them."""

import json

import pytest
import torch

from spikeclip.config import model_config
from spikeclip.data import Tokenizer
from spikeclip.model import SpikeCLIP

MERGE = ("energy", "run", "--data", "shapes", "--limit", "60", "--into")


def test_verify(process):
    code, out, error = process("verify", "run", "--limit", "2")
    assert (code, error) == (0, "")
    assert "exception: stem" in out
    assert "exception: readout" in out
    assert "integer, D = 4" in out
    assert out.count("activations, 0 differ") == 2
    assert "Every synaptic operation reads spikes" in out


def test_a_network_that_does_not_spike(command, folder):
    text = {"vocab_size": 300, "eos_id": 1, "width": 16, "depth": 1, "num_heads": 2}
    tokenizer = Tokenizer.load(folder / "run" / "model")
    text |= {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id}
    torch.manual_seed(0)
    config = model_config("spikeclip-tiny", neuron="relu", embed_dim=16, image={"widths": [8]}, text=text)
    SpikeCLIP(config, tokenizer).save_pretrained(folder / "relu")
    code, out, error = command("verify", "relu", "--limit", "2")
    assert code == 1
    assert out == ""
    assert error == "Error: relu is an ordinary (ReLU) network without spikes: there is nothing to verify\n"
    code, _, error = command("energy", "relu", "--data", "shapes", "--limit", "60")
    assert code == 1
    assert "is a ReLU" in error


def test_energy(process, folder):
    assert process("evaluate", "run", "--data", "shapes", "--limit", "60", "--out", "evaluated.json")[0] == 0
    before = json.loads((folder / "evaluated.json").read_text())
    code, out, error = process(*MERGE, "evaluated.json", "--measure", "--ledger", "--out", "energy")
    assert (code, error) == (0, "")
    assert "ANN twin, 3-bit activations" in out
    assert "synaptic operations" in out
    assert out.startswith("- Against its ordinary twins")
    assert "L2 tiled: with memory and addresses, each stored number fetched once" in out
    assert " ± " in out
    assert (folder / "energy" / "report.html").stat().st_size > 50_000
    found = json.loads((folder / "energy" / "energy.json").read_text())
    assert found["metrics"]["acc1"] == pytest.approx(before["metrics"]["acc1"], abs=0.02)
    assert found["energy"]["measured"]["seconds"] > 0
    after = json.loads((folder / "evaluated.json").read_text())
    assert after["metrics"] == before["metrics"]
    assert after["spikes"]["mean_rate"] == pytest.approx(before["spikes"]["mean_rate"], rel=1e-3)
    assert after["energy"]["total"] == found["energy"]["total"]
    assert after["provenance"]["energy_convention"] == "horowitz-45nm"


def test_energy_goes_into_the_record_of_one_model_alone(command, folder):
    (folder / "two.json").write_text(json.dumps({"records": [{}, {}], "comparison": []}))
    for name, message in (
        ("two.json", "two.json holds 2 records: --into takes that of one"),
        ("own.json", "no record"),
    ):
        (folder / "own.json").write_text("{}")
        code, _, error = command(*MERGE, name, "--out", "never")
        assert (code, message in error) == (1, True)
    assert not (folder / "never").exists()


def test_a_run_that_is_no_twin_or_was_not_tested_on_the_same_pictures(command, folder):
    saved = (folder / "run" / "model" / "config.json").read_text()
    (folder / "twin" / "model").mkdir(parents=True)
    config = folder / "twin" / "model" / "config.json"
    config.write_text(saved.replace('"ilif"', '"relu"'))
    arguments = ("energy", "run", "--data", "shapes", "--limit", "60", "--twin", "twin", "--out", "never")
    data = {"source": "shapes", "split": "heldout", "pictures": 10}
    test = {"metrics": {"acc1": 0.5}, "provenance": {"data": data}}
    messages = {
        "twin was trained without a test, so there is no accuracy to compare with: leave out": {
            "stages": [],
            "test": None,
        },
        "twin was tested on shapes heldout, and this is shapes test: leave out --twin": {
            "stages": [],
            "test": test,
        },
        "is no result of a training: --twin names the run": {"records": []},
    }
    for message, result in messages.items():
        (folder / "twin" / "results.json").write_text(json.dumps(result))
        code, _, error = command(*arguments)
        assert (code, message in error, error.count("\n")) == (1, True, 1), error
    (folder / "twin" / "results.json").write_text(json.dumps({"stages": [], "test": test}))
    config.write_text(saved)
    message = "twin has spiking neurons (ilif): --twin names the run of the ReLU twin"
    code, _, error = command(*arguments)
    assert (code, message in error, error.count("\n")) == (1, True, 1), error


WITHOUT = "import sys; sys.modules['matplotlib'] = None; from spikeclip.cli import main; main()"


def test_without_matplotlib_everything_but_the_figures_is_there(process, folder):
    code, out, error = process(
        "energy", "run", "--data", "shapes", "--limit", "60", "--out", "bare", code=WITHOUT
    )
    told = "Warning: figures are left out; this needs matplotlib, which is not installed: pip install matplotlib\n"
    assert (code, error) == (0, told)
    assert "ANN twin, 3-bit activations" in out
    assert "report: bare/report.html" in out
    report = (folder / "bare" / "report.html").read_text()
    assert "<img" not in report
    assert "matplotlib is not installed where this was written" in report
    assert json.loads((folder / "bare" / "energy.json").read_text())["energy"]["levels"]
    arguments = ("--data", "shapes", "--limit", "40", "--task", "corruption", "--out", "bare.json")
    code, out, error = process("evaluate", "run", *arguments, code=WITHOUT)
    assert (code, error) == (0, told)
    assert "acc1_noise" in out
    assert "result: bare.json" in out
    assert "figure" not in out


def test_a_contact_sheet_without_matplotlib_is_refused_before_work(process, folder):
    code, out, error = process("data", "show", "no-such-set", code=WITHOUT)
    assert (code, out) == (1, "")
    assert error == "Error: this needs matplotlib, which is not installed: pip install matplotlib\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("energy", "nowhere", "--data", "shapes"), "no such folder: 'nowhere'"),
        (("energy", "run", "--data", "shapes", "--precision", "int9"), "did you mean 'int8'"),
        (("energy", "run", "--data", "shapes", "--conventions", "no.yaml"), "no such file: no.yaml"),
        (("energy", "run", "--data", "shapes", "--into", "no.json"), "no.json: the record cannot be read"),
        (("energy", "run", "--data", "shapes", "--twin", "run"), "results.json: the record cannot be read"),
        (("energy", "run", "--data", "shapes", "--out", "pictures/one.png"), "is a file"),
        (
            ("energy", "run", "--data", "shapes", "--limit", "60", "--teacher", "run/model"),
            "run/model is a network of spikeclip: --twin accounts for its energy",
        ),
        (("verify", "nowhere"), "no such folder: 'nowhere'"),
    ],
)
def test_mistakes_are_one_line(command, arguments, message):
    code, _, error = command(*arguments)
    assert code == 1
    assert message in error
    assert error.count("\n") == 1
