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
    assert "NOT DECLARED" in out
    assert error.startswith("Error: ")
    assert "image.groups.0.conv" in error
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
            "cannot teach with a model",
        ),
        (("verify", "nowhere"), "no such folder: 'nowhere'"),
    ],
)
def test_mistakes_are_one_line(command, arguments, message):
    code, _, error = command(*arguments)
    assert code == 1
    assert message in error
    assert error.count("\n") == 1
