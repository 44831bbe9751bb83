import math

import pytest
import torch
import torch.nn.functional as F

from spikeclip.losses import (
    contrastive_loss,
    cosine_loss,
    kl_loss,
    rate_loss,
    relational_loss,
    sigmoid_loss,
)


def unit(rows, width=6, seed=0):
    vectors = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(vectors, dim=1)


def twice(x):
    return torch.cat([x, x])


def test_cosine_loss_counts_angles_only():
    student = torch.tensor([[3.0, 0.0], [0.0, 0.5], [-2.0, 0.0]])
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert cosine_loss(student, teacher).item() == pytest.approx((0 + 1 + 2) / 3)
    a, b = unit(5), unit(5, seed=1)
    assert cosine_loss(a, b).item() == pytest.approx((a - b).square().sum(1).mean().item() / 2)


@pytest.mark.parametrize("loss", [cosine_loss, kl_loss, lambda a, b: kl_loss(a, b, 3.0)])
def test_a_batch_seen_twice_costs_the_same(loss):
    a, b = unit(5) * 7, unit(5, seed=1) * 7
    assert loss(twice(a), twice(b)).item() == pytest.approx(loss(a, b).item())


def test_contrastive_pairs_seen_twice_pull_the_same():
    a, b = unit(5).requires_grad_(), unit(5, seed=1).requires_grad_()
    same = torch.eye(5, dtype=torch.bool)
    once = contrastive_loss(a, b, 10.0)
    assert contrastive_loss(a, b, 10.0, same).item() == pytest.approx(once.item())
    gradients = torch.autograd.grad(once, (a, b))
    doubled = contrastive_loss(twice(a), twice(b), 10.0, same.repeat(2, 2))
    # Which of two equal columns it is cannot be told: the targets' entropy, ln 2, stays.
    assert doubled.item() == pytest.approx(once.item() + math.log(2))
    torch.testing.assert_close(torch.autograd.grad(doubled, (a, b)), gradients)


def test_infonce_by_hand():
    a, b = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # logits 2 a b^T = [[2, 1.2], [0, 1.6]]
    rows = (math.log1p(math.exp(1.2 - 2)) + math.log1p(math.exp(0 - 1.6))) / 2
    columns = (math.log1p(math.exp(0 - 2)) + math.log1p(math.exp(1.2 - 1.6))) / 2
    assert contrastive_loss(a, b, 2.0).item() == pytest.approx((rows + columns) / 2)


def test_matches_share_the_target():
    a, b = unit(3), unit(3, seed=1)
    same = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]]).bool()
    logits = 4.0 * a @ b.T
    log_rows, log_columns = logits.log_softmax(1), logits.log_softmax(0)
    rows = -((log_rows[0, 0] + log_rows[0, 1]) / 2 + log_rows[1, 1] + log_rows[2, 2]) / 3
    columns = -(log_columns[0, 0] + (log_columns[0, 1] + log_columns[1, 1]) / 2 + log_columns[2, 2]) / 3
    assert contrastive_loss(a, b, 4.0, same).item() == pytest.approx(((rows + columns) / 2).item())


def test_a_pair_that_does_not_match_itself_is_left_out():
    a, b = unit(6), unit(6, seed=1)
    same = torch.eye(6, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    there = torch.tensor([0, 2, 3, 5])
    expected = contrastive_loss(a[there], b[there], 7.0, same[there][:, there])
    same[[1, 4]] = False
    assert contrastive_loss(a, b, 7.0, same).item() == pytest.approx(expected.item())
    nothing = contrastive_loss(a.requires_grad_(), b, 7.0, torch.zeros_like(same))
    assert nothing.item() == 0
    assert not torch.autograd.grad(nothing, a)[0].any()


def test_sigmoid_by_hand():
    a, b = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # logits 2 a b^T - 1 = [[1, 0.2], [-1, 0.6]]; pairs on the diagonal match, the others do not
    by_hand = sum(math.log1p(math.exp(-x)) for x in (1, -0.2, 1, 0.6)) / 2
    assert sigmoid_loss(a, b, 2.0, -1.0).item() == pytest.approx(by_hand)
    everything = sum(math.log1p(math.exp(-x)) for x in (1, 0.2, -1, 0.6)) / 2
    assert sigmoid_loss(a, b, 2.0, -1.0, torch.ones(2, 2).bool()).item() == pytest.approx(everything)


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: contrastive_loss(a, b, 10.0),
        lambda a, b: sigmoid_loss(a, b, 10.0, -5.0),
        lambda a, b: cosine_loss(a, b),
    ],
)
def test_matching_pairs_cost_least_and_descent_finds_them(loss):
    b = unit(4)
    assert loss(b, b) < loss(b.roll(1, 0), b)
    free = unit(4, seed=1).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss(F.normalize(free, dim=1), b).backward()
        optimizer.step()
    assert (F.normalize(free, dim=1) @ b.T).argmax(1).tolist() == [0, 1, 2, 3]


def test_a_colder_scale_sharpens():
    # Where every pair is nearest its own partner, a larger scale costs less; where none is, more.
    b = unit(4)
    scales = (1.0, 10.0, 100.0)
    right = [contrastive_loss(b, b, s).item() for s in scales]
    wrong = [contrastive_loss(b.roll(1, 0), b, s).item() for s in scales]
    assert right == sorted(right, reverse=True)
    assert wrong == sorted(wrong)
    scale = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    contrastive_loss(b, b, scale).backward()
    assert scale.grad < 0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kl_is_a_mean_of_divergences_times_the_squared_temperature(temperature):
    student, teacher = unit(5) * 7, unit(5, seed=1) * 7
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    expected = temperature**2 * (p * (p / q).log()).sum() / 5
    assert kl_loss(student, teacher, temperature).item() == pytest.approx(expected.item())
    assert kl_loss(teacher + 3.0, teacher, temperature).item() == pytest.approx(0, abs=1e-12)
    student.requires_grad_()
    kl_loss(student, teacher, temperature).backward()
    torch.testing.assert_close(student.grad, temperature * (q - p) / 5)


def test_relational_loss_compares_similarities_not_vectors():
    teacher = unit(5)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    assert relational_loss(teacher @ rotation, teacher, 10.0, 10.0).item() == pytest.approx(0, abs=1e-12)
    assert relational_loss(teacher, teacher, 5.0, 10.0).item() > 1e-3
    assert relational_loss(unit(5, seed=1), teacher, 10.0, 10.0).item() > 1e-3


def test_relational_loss_leaves_out_the_picture_itself():
    student, teacher = unit(4, seed=1), unit(4)
    expected = 0.0
    for i in range(4):
        others = [j for j in range(4) if j != i]
        p = (10.0 * teacher[others] @ teacher[i]).softmax(0)
        q = (10.0 * student[others] @ student[i]).softmax(0)
        expected += (p * (p / q).log()).sum().item() / 4
    assert relational_loss(student, teacher, 10.0, 10.0).item() == pytest.approx(expected)


def test_a_layer_pays_for_its_rate_above_the_target_as_often_as_it_drives_accumulates():
    rates = {
        name: torch.tensor(rate, requires_grad=True) for name, rate in (("a", 0.5), ("b", 0.1), ("c", 0.3))
    }
    loss = rate_loss(rates, {"a": 30, "b": 60, "c": 10, "of the other tower": 900}, 0.2)
    assert loss.item() == pytest.approx((30 * 0.3 + 10 * 0.1) / 100)
    loss.backward()
    assert [rate.grad.item() for rate in rates.values()] == pytest.approx([0.3, 0.0, 0.1])
