"""Small batches: what is refused, what is warned of, and statistics that are computed anew."""

import pytest
import torch
from small_run import rows

from spikeclip.config import StageConfig, from_dict
from spikeclip.errors import InputError
from spikeclip.open import from_pretrained
from spikeclip.towers.norm import BatchNorm
from spikeclip.train import loop
from spikeclip.train.feed import Feed, Steps
from spikeclip.train.network import StageNetwork
from spikeclip.train.statistics import (
    BATCH,
    LEAST_BATCH,
    check_batch,
    check_folded,
    fix_statistics,
    recompute_statistics,
)


def stage_of(**settings) -> StageConfig:
    return from_dict(StageConfig, {"stage": "align_image", **settings})


def test_a_batch_of_one_has_nothing_to_compare_with():
    for kind, loss in (
        ("contrastive", {}),
        ("align_text", {"interactive": 0.1}),
        ("align_image", {"relational": 1.0}),
    ):
        with pytest.raises(InputError, match=f"stage {kind}: a batch of 1 has nothing to compare with"):
            check_batch(stage_of(stage=kind, batch_size=1, loss=loss, recompute_statistics=True), 100, 1)
    with pytest.raises(InputError, match=r"a batch of 1 \(there are no more samples\) has nothing"):
        check_batch(stage_of(stage="contrastive", share=0.01), 100, 1)


def test_small_batches_are_warned_of_unless_statistics_are_computed_anew():
    warning = check_batch(stage_of(batch_size=LEAST_BATCH - 1), 100, 1)
    assert f"batch_size to {LEAST_BATCH} or more, or set recompute_statistics: true" in warning
    assert check_batch(stage_of(batch_size=64), LEAST_BATCH - 1, 1) is not None  # there are no more
    assert check_batch(stage_of(batch_size=LEAST_BATCH), 100, 1) is None
    for setting in ("recompute_statistics", "fixed_statistics"):
        assert check_batch(stage_of(batch_size=2, **{setting: True}), 100, 1) is None


def test_processes_share_a_batch_evenly():
    with pytest.raises(InputError, match="batch size 15 does not divide among 2 processes"):
        check_batch(stage_of(batch_size=15), 100, 2)
    with pytest.raises(InputError, match="batch size 25 does not divide among 2 processes"):
        check_batch(stage_of(batch_size=64), 25, 2)


def test_the_last_batch_of_an_epoch_is_never_smaller(prepared):
    steps = Steps(prepared({"stage": "align_image", "batch_size": 23}).stage())
    assert [len(steps.at(step)[1]) for step in range(steps.total)] == [
        23
    ] * 14  # 162 pictures, 7 steps, 2 epochs


def test_statistics_are_those_of_the_batches(prepared):
    made = prepared({"stage": "align_image"})
    stage = made.stage()
    network = StageNetwork(made.model, stage, torch.float32)
    norm = next(m for m in made.model.image.modules() if isinstance(m, BatchNorm))
    momentum, seen = norm.momentum, []
    handle = norm.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    plan = [(1, indices) for indices in torch.arange(150).split(50)]
    recompute_statistics(network, Feed(stage, torch.device("cpu")).batches(plan))
    handle.remove()
    assert len(seen) == 3
    mean = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    var = torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, var, rtol=1e-4, atol=1e-5)
    assert norm.momentum == momentum
    texts = [m for m in made.model.text.modules() if isinstance(m, BatchNorm)]
    assert texts
    assert not any(m.running_mean.any() for m in texts)  # no batch passed them


def test_samples_of_statistics_are_drawn_by_the_epoch_and_shared_by_processes(prepared):
    steps = Steps(prepared({"stage": "align_image", "batch_size": 4}).stage())
    ((_, one),), ((_, other),), ((_, shared),) = steps.some(1, 1), steps.some(2, 1), steps.some(1, 4)
    assert len(one.unique()) == 162 < BATCH
    assert not torch.equal(one, other)
    assert len(shared) == 160


def test_a_stage_of_tiny_batches_is_scored_with_statistics_computed_anew(run, monkeypatch):
    stage = {"stage": "finetune", "epochs": 2, "batch_size": 2, "optimizer": {"lr": 1e-3}}
    calls = []
    monkeypatch.setattr(
        loop, "recompute_statistics", lambda *given: calls.append(recompute_statistics(*given))
    )
    spoiled, _ = run(stage, out="spoiled")
    assert not calls
    anew, folder = run({**stage, "recompute_statistics": True}, out="anew")
    assert len(calls) == 2
    losses = [
        [row["train_loss"] for row in rows(folder.with_name(name)) if "epoch" in row]
        for name in ("spoiled", "anew")
    ]
    assert losses[0] == losses[1]  # training itself never reads them
    assert anew["stages"][0]["best"] != spoiled["stages"][0]["best"]


def test_fixed_statistics_stay(run):
    _, folder = run({"stage": "align_image", "epochs": 1, "fixed_statistics": True})
    state = from_pretrained(folder).image.state_dict()
    means, variances = (
        [value for name, value in state.items() if name.endswith(kind)]
        for kind in ("running_mean", "running_var")
    )
    assert means
    assert not any(mean.any() for mean in means)  # as a network starts
    assert all((variance == 1).all() for variance in variances)


def test_fixed_statistics_are_those_that_training_reads(prepared):
    made = prepared({"stage": "align_image"})
    stage = made.stage()
    network, batch = (
        StageNetwork(made.model, stage, torch.float32),
        Feed(stage, torch.device("cpu")).batch(1, torch.arange(50)),
    )
    with torch.no_grad():
        wanted = network.eval()(*batch)["cosine"]
        assert network.train()(*batch)["cosine"] != wanted
        made = prepared({"stage": "align_image"})  # whose statistics have not moved
        network = StageNetwork(made.model.train(), stage, torch.float32)
        fix_statistics(made.model)
        assert network(*batch)["cosine"] == wanted


def test_a_folded_network_is_trained_with_fixed_statistics_and_without_muon(prepared):
    model = prepared({"stage": "align_image"}).model
    stage = stage_of(stage="finetune")
    check_folded(model, stage, ("image",), "stages.1")
    for module in model.image.modules():
        if isinstance(module, BatchNorm):
            module.become_identity()
    for wrong in ({}, {"fixed_statistics": True, "optimizer": {"kind": "muon"}}):
        with pytest.raises(
            InputError, match=r"set stages\.1\.fixed_statistics=true and stages\.1\.optimizer\.kind"
        ):
            check_folded(model, stage_of(**wrong), ("image",), "stages.1")
    check_folded(model, stage_of(fixed_statistics=True), ("image",), "stages.1")
    check_folded(model, stage_of(stage="align_text"), ("text",), "stages.1")
