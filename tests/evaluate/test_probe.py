import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spikeclip.errors import InputError
from spikeclip.evaluate import probe
from spikeclip.evaluate.probe import STRENGTHS, fit, linear_probe
from spikeclip.evaluate.shots import draw_shots

GENERATOR = torch.Generator().manual_seed(0)
CENTRES = torch.randn(3, 16, generator=GENERATOR)


def sample(count, noise):
    labels = torch.arange(count) % 3
    return F.normalize(CENTRES[labels] + noise * torch.randn(count, 16, generator=GENERATOR), dim=-1), labels


def test_it_learns_what_can_be_learned():
    metrics, penalty = linear_probe(sample(60, 0.2), sample(30, 0.2), sample(90, 0.2), classes=3)
    assert metrics["acc1"] == 1
    assert penalty == STRENGTHS[0]  # all are equally good: the strongest


def test_the_strength_is_chosen_on_the_held_pictures(monkeypatch):
    learn, held, test = sample(24, 2.0), sample(90, 2.0), sample(90, 2.0)
    monkeypatch.setattr(probe, "STRENGTHS", (1.0, 1e-1, 1e-3))
    _, chosen = linear_probe(learn, held, test, classes=3)
    accuracy = {}
    for strength in probe.STRENGTHS:
        monkeypatch.setattr(probe, "STRENGTHS", (strength,))
        accuracy[strength] = linear_probe(learn, held, held, classes=3)[0]["acc1"]
    assert accuracy[chosen] == max(accuracy.values()) > min(accuracy.values())


def test_the_fit_is_the_optimum_of_its_objective():
    x, labels = sample(40, 1.0)
    x = F.pad(x, (0, 1), value=1.0)
    weight = fit(x, labels, 0.01, torch.zeros(3, 17)).requires_grad_()
    loss = F.cross_entropy(x @ weight.T, labels) + 0.005 * weight[:, :-1].square().sum()
    assert torch.autograd.grad(loss, weight)[0].abs().max() < 1e-4


def test_embeddings_that_are_not_numbers():
    bad = sample(9, 1.0)
    bad[0][0] = torch.nan
    with pytest.raises(InputError, match="1 of 9 embeddings of training pictures are not numbers"):
        linear_probe(bad, sample(9, 1.0), sample(9, 1.0), classes=3)


def test_shots_are_nested_and_of_every_class():
    labels = torch.from_numpy(np.random.default_rng(0).permutation(np.repeat([0, 1, 4], [20, 25, 40])))
    shots = draw_shots(labels, 16, seed=0)
    assert labels[shots].tolist() == [[label] * 16 for label in (0, 1, 4)]
    assert len(np.unique(shots)) == 3 * 16
    assert (draw_shots(labels, 4, seed=0) == shots[:, :4]).all()
    assert set(draw_shots(labels, 4, seed=1).flatten().tolist()) != set(shots[:, :4].flatten().tolist())
    assert draw_shots(labels, 30, seed=0).shape == (3, 20)
