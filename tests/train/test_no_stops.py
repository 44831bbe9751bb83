"""Between two rows of the log a device is not waited for, and a loss that is no number is still found and named."""

import math
import traceback

import pytest
import torch
from small_run import rows
from torch.utils._python_dispatch import TorchDispatchMode

from spikeclip.errors import InputError
from spikeclip.train import loop
from spikeclip.train import run as run_module
from spikeclip.train.checks import Losses, read
from spikeclip.train.optimizer import Muon
from spikeclip.train.report import Report
from spikeclip.train.session import Session
from spikeclip.train.stages.align_image import AlignImage

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")
MUON = {"optimizer": {"kind": "muon", "lr": 0.02, "scalar_lr": 0.002, "clip_norm": 1.0}}


NOT_ON_A_GPU = ("neurons/cpu.py", "stage.py:trim", "spikeclip/model.py:encode_text")
"""The processor's own kernels, what a stage looks up there, and the check of token ids, which leaves those of a GPU."""


class Waits(TorchDispatchMode):
    """Notes the operations whose result has to reach the processor."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in WAITS:
            frames, place = traceback.walk_stack(None), ""
            for frame, _ in frames:
                place += f"{frame.f_code.co_filename}:{frame.f_code.co_name}:{frame.f_lineno} "
            if not any(name in place for name in NOT_ON_A_GPU):
                self.found.append(f"{func}: {place}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "stage",
    [
        {"stage": "align_text", "loss": {"interactive": 0.5, "relational": 0.5}},
        {"stage": "align_image", "loss": {"interactive": 0.5, "relational": 0.5, "texts": 1.0}, **MUON},
        {"stage": "align_image", "loss": {"prototype": 0.5, "rate": 0.1}},
        {"stage": "finetune", **MUON},
        {"stage": "contrastive", "loss": {"contrastive": "sigmoid"}},
    ],
    ids=str,
)
def test_nothing_is_waited_for_between_two_rows(stage, config, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 4)
    mode, found, reads = Waits(), {}, []
    step, take = Report.step, Losses.read

    def after(report, number, samples):
        found[number] = list(mode.found)
        step(report, number, samples)

    def watch(losses):
        values = take(losses)
        reads.append(len(values))
        return values

    monkeypatch.setattr(Report, "step", after)
    monkeypatch.setattr(Losses, "read", watch)
    # A step waits between the one before and its end; what follows it, a row and validation, does not count.
    prepare = loop.StageNetwork.forward

    def begin(network, inputs, targets):
        mode.found.clear()
        return prepare(network, inputs, targets)

    monkeypatch.setattr(loop.StageNetwork, "forward", begin)
    made = config({"batch_size": 20, "epochs": 2, **stage})
    with mode:
        run_module.train_run(made, tmp_path / "run", quiet=True, test=False)
    assert len(found) >= 4
    assert {number: waits for number, waits in found.items() if waits} == {}
    steps, epoch = len(found), len(found) // 2
    asked = [i for i in range(steps) if i % 4 == 0 or (i + 1) % epoch == 0]
    assert reads == [b - a for a, b in zip([-1, *asked], asked, strict=False)]


@pytest.mark.parametrize("optimizer", [{}, MUON], ids=["adamw", "muon"])
@pytest.mark.parametrize("relu_first", [0.0, 1.0])
def test_a_loss_that_is_no_number_between_two_rows_is_named(
    optimizer, relu_first, run, tmp_path, monkeypatch
):
    """It is read three steps later; until then the weights are left as they were, or all would be NaN by then."""
    count = []

    def spoil(stage, model):
        count.append(1)
        if len(count) == 8:
            with torch.no_grad():
                model.image.groups[2].conv.weight[0, 0, 0, 0] = math.nan

    monkeypatch.setattr(AlignImage, "after_step", spoil)
    with pytest.raises(InputError, match=r"not a number at step 8, first in layer image\.groups\.2\.conv;"):
        run({"stage": "align_image", "relu_first": relu_first, **optimizer})
    assert len(count) == 12  # read at the end of the epoch
    assert [row["step"] for row in rows(tmp_path / "run")] == [0, 5]


@pytest.mark.parametrize("kind", ["fused", "muon", "other"])
def test_weights_stay_from_a_loss_on_that_is_not_finite(kind):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(6, 5))
    make = {
        "fused": lambda: torch.optim.AdamW([weight], lr=0.1, fused=True),
        "muon": lambda: Muon([weight], lr=0.1),
        "other": lambda: torch.optim.Adafactor([weight], lr=0.1, weight_decay=0.0),
    }
    optimizer = make[kind]()
    losses = Losses(torch.device("cpu"), [optimizer])
    states = []
    for loss in (1.0, math.inf, 2.0, math.nan):
        losses.add(torch.tensor(loss))
        weight.grad = torch.full_like(weight, loss) * torch.randn_like(weight)
        optimizer.step()
        states.append(weight.detach().clone())
    assert torch.isfinite(states[0]).all()
    assert all(torch.equal(state, states[0]) for state in states)
    assert str(losses.read()) == "[1.0, inf, 2.0, nan]"
    assert losses.read() == []


def test_numbers_are_read_by_their_names():
    values = {"a": torch.tensor(1.5, requires_grad=True), "b": torch.tensor(2), "c": torch.tensor(True)}
    assert read(values) == {"a": 1.5, "b": 2.0, "c": 1.0}
    assert read({}) == {}


def test_one_process_stops_after_any_step_and_several_together(run, monkeypatch, tmp_path):
    """A signal is a flag of the processor, which nothing has to be waited for to read."""
    asked = []

    def interrupted(session):
        asked.append(1)
        return len(asked) == 3

    monkeypatch.setattr(Session, "any_interrupted", interrupted)
    with pytest.raises(loop.Interrupted):
        run({"stage": "align_image"})
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["stage"]["progress"]["step"] == 3
