"""Muon's rule, the groups of parameters and the schedule."""

import itertools

import pytest
import torch

from spikeclip.config import OptimizerConfig, model_config
from spikeclip.model import SpikeCLIP
from spikeclip.train import optimizer as optimizer_module
from spikeclip.train.optimizer import Muon, make_optimizers, orthogonalize, schedule
from spikeclip.train.precision import has_bf16

CONV = {"widths": [8, 16], "depth": 1, "num_heads": 2}
FORMER = {"architecture": "spikingformer", "widths": [4, 8, 8, 16, 16], "depth": 1, "num_heads": 2}
MLP = {"architecture": "mlp", "context_length": 5, "width": 16, "depth": 0}


@pytest.mark.parametrize("shape", [(24, 24), (16, 72), (72, 16)])
def test_orthogonalize_brings_singular_values_near_one(shape):
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    made = orthogonalize(u @ torch.linspace(5, 100, len(v)).diag() @ v, steps=5)
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.6
    assert values.max() < 1.3
    # The directions stay: the result is near the closest orthogonal matrix, u v.
    assert torch.nn.functional.cosine_similarity(made.flatten(), (u @ v).flatten(), dim=0) > 0.95


def test_orthogonalize_does_not_see_the_scale_of_a_gradient():
    torch.manual_seed(0)
    matrix = torch.randn(8, 30)
    torch.testing.assert_close(orthogonalize(matrix), orthogonalize(matrix * 1e4), rtol=0.02, atol=0.02)
    assert torch.isfinite(orthogonalize(torch.zeros(4, 4))).all()


def test_muon_renormalises_filters_and_takes_a_step_of_known_size():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(5 * torch.randn(8, 4, 3, 3))
    start = weight.detach().clone()
    optimizer = Muon([weight], lr=0.1)
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    unit = start * 8**0.5 / start.norm()
    moved = (unit - weight).detach()
    torch.testing.assert_close(
        moved, 0.1 * orthogonalize(weight.grad.flatten(1)).view_as(weight), atol=0.01, rtol=0
    )
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert weight.norm().item() == pytest.approx(8**0.5, rel=1e-5)


SHAPES = [(8, 4, 3, 3), (8, 4, 3, 3), (16, 36), (36, 16), (8, 36), (16, 36), (3, 1, 1, 1)]


def test_filters_of_one_shape_move_together_as_each_would_alone():
    made = []
    for together in (False, True):
        torch.manual_seed(0)
        filters = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
        filters[0].data = filters[0].data.to(memory_format=torch.channels_last)
        optimizer = Muon(filters, lr=0.1, together=together)
        assert sorted(map(len, optimizer._batches(filters))) == ([1, 1, 2, 3] if together else [1] * 7)
        for step in range(3):
            for p in filters:
                p.grad = torch.randn_like(p)
            if step == 1:
                filters[1].grad = None
            optimizer.step()
        made.append((filters, [optimizer.state[p]["momentum"] for p in filters]))
    for one, other in zip(*made, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-2 if has_bf16("cpu") else 1e-5)


@pytest.mark.parametrize("shape", [(5, 9, 4), (5, 4, 9)])
def test_orthogonalised_together_are_those_orthogonalised_alone(shape, monkeypatch):
    monkeypatch.setattr(optimizer_module, "has_bf16", lambda device: False)
    torch.manual_seed(0)
    stacked = torch.randn(shape) * torch.logspace(-3, 3, 5)[:, None, None]
    torch.testing.assert_close(orthogonalize(stacked), torch.stack([*map(orthogonalize, stacked)]))


def test_muon_descends():
    torch.manual_seed(0)
    goal = torch.randn(8, 4, 3, 3)
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    optimizer = Muon([weight], lr=0.2)

    def angle():
        return 1 - torch.nn.functional.cosine_similarity(weight.flatten(), goal.flatten(), dim=0)

    before = angle().item()
    for step in range(40):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 40)
        optimizer.zero_grad()
        angle().backward()
        optimizer.step()
    assert angle().item() < 0.05 < before


@pytest.mark.parametrize("kind", ["adamw", "muon", "adafactor"])
@pytest.mark.parametrize(
    "settings",
    [
        {"image": CONV, "text": {"width": 16, "depth": 1}, "learn_range": True},
        {"image": FORMER, "text": MLP, "neuron": "plif"},
    ],
)
def test_every_trainable_parameter_is_in_exactly_one_group(kind, settings):
    model = SpikeCLIP(model_config("spikeclip-tiny", embed_dim=16, **settings))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("text.token"))
    optimizers = make_optimizers(model, OptimizerConfig(kind=kind, lr=0.3, scalar_lr=0.01, weight_decay=0.1))
    held = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters() if p.requires_grad}
    names = {id(p): name for name, p in model.named_parameters()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            assert (
                group["peak"]
                == group["lr"]
                == (0.3 if kind != "muon" or isinstance(optimizer, Muon) else 0.01)
            )
            for p in group["params"]:
                if isinstance(optimizer, Muon):
                    # Filters and matrices behind which a BatchNorm forgets their size.
                    assert names[id(p)].endswith(("conv.weight", "linear.weight"))
                    assert not names[id(p)].endswith("readout.linear.weight")
                else:
                    assert group["weight_decay"] == (0.1 if p.ndim > 1 else 0.0)
    if kind == "muon":
        muon = {id(p) for o in optimizers if isinstance(o, Muon) for g in o.param_groups for p in g["params"]}
        assert all(
            id(p) in muon
            for n, p in model.named_parameters()
            if n.endswith(("conv.weight", "q.linear.weight"))
        )


def shares(**settings) -> list[float]:
    return [schedule(step, 100, OptimizerConfig(**settings)) for step in range(100)]


def test_warm_up_rises_evenly_to_the_peak():
    values = shares(warmup=0.1, schedule="constant")
    assert values[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert values[10:] == [1.0] * 90


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_decay_goes_from_the_peak_to_the_final_share(kind):
    values = shares(warmup=0.2, schedule=kind, final=0.1)
    assert values[20] == 1.0
    assert values[60] == pytest.approx(0.55)
    assert 0.1 < values[-1] < 0.13
    assert all(later < earlier for earlier, later in itertools.pairwise(values[20:]))
    steps = torch.tensor(values[20:]).diff()
    assert (steps.std() < 1e-6) == (kind == "linear")


def test_no_warm_up_starts_at_the_peak():
    assert shares(warmup=0.0)[0] == 1.0
    assert schedule(0, 1, OptimizerConfig()) == 1.0
