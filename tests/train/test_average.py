"""The moving average of the weights: what it is, and that a run validates, keeps and resumes it."""

import pytest
import torch
from small_run import rows, weights

from spikeclip.errors import InputError
from spikeclip.model import from_pretrained
from spikeclip.train import loop
from spikeclip.train.average import Average
from spikeclip.train.session import Session
from spikeclip.train.stages.finetune import Finetune

STAGE = {"stage": "finetune", "epochs": 3, "select": "last", "ema": 0.8, "optimizer": {"lr": 0.02}}


def averaged(states: list[dict], decay: float) -> dict:
    """By the definition, from the weights before the first step and after each."""
    mean = {name: value.double() for name, value in states[0].items()}
    for step, state in enumerate(states[1:]):
        share = min(decay, (1 + step) / (10 + step))
        mean = {name: share * mean[name] + (1 - share) * value.double() for name, value in state.items()}
    return mean


def test_it_is_the_exponential_average_of_its_parts_alone():
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"image": torch.nn.BatchNorm1d(4), "text": torch.nn.Linear(4, 2)})
    average = Average(model, ["image"], 0.3)
    states = [{name: value.clone() for name, value in model.state_dict().items()}]
    for step in range(30):
        with torch.no_grad():
            for value in model.state_dict().values():
                value += torch.randn(value.shape).to(value.dtype)
        average.update(step)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    expected = averaged(states, 0.3)
    assert average.values.keys() == {
        f"image.{name}" for name in ("weight", "bias", "running_mean", "running_var")
    }
    for name, value in average.values.items():
        torch.testing.assert_close(value.double(), expected[name], atol=1e-5, rtol=1e-5)
    with average.shown():
        shown = {name: value.clone() for name, value in model.state_dict().items()}
    for name, value in states[-1].items():
        assert torch.equal(shown[name], average.values.get(name, value))
        assert torch.equal(model.state_dict()[name], value)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_run_validates_and_keeps_the_average_and_learns_as_without(recompute, run, prepared, monkeypatch):
    stage = {**STAGE, "recompute_statistics": recompute}
    states = []

    def watch(stage, model):
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    monkeypatch.setattr(Finetune, "after_step", watch)
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    _, plain = run({**stage, "ema": 0.0}, out="plain")
    states.clear()
    _, folder = run(stage)
    losses = [[row["loss"] for row in rows(path) if "loss" in row] for path in (plain, folder)]
    assert losses[0] == losses[1]
    start = prepared(stage).model.state_dict()
    expected = averaged([start, *states], 0.8)
    model = from_pretrained(folder / "model")
    moved = 0.0
    for name, value in model.state_dict().items():
        if name.startswith("image") and value.is_floating_point():
            if recompute and "running" in name:
                moved += (value - expected[name]).abs().max().item()
            else:
                torch.testing.assert_close(value.double(), expected[name], atol=1e-5, rtol=1e-4)
    assert (moved > 1e-3) == recompute  # the statistics are then those of the average


def test_a_resumed_average_is_that_of_an_undisturbed_run(run, tmp_path, monkeypatch):
    _, whole = run(STAGE, out="whole")
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(Session, "any_interrupted", lambda session: asked.append(1) or len(asked) == 9)
        with pytest.raises(loop.Interrupted):
            run(STAGE)
    file = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(file, weights_only=True)
    torch.save({**state, "stage": {**state["stage"], "average": {}}}, file)
    with pytest.raises(InputError, match="the checkpoint does not fit this training"):
        run(STAGE, resume=True)
    torch.save(state, file)
    _, folder = run(STAGE, resume=True)
    assert weights(folder) == weights(whole)
    _, plain = run({**STAGE, "ema": 0.0}, out="plain")
    assert weights(plain) != weights(whole)
