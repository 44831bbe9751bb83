"""Pictures on the device or read ahead: the same batches, whoever makes them and wherever he begins."""

import itertools
import threading

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_run import rows, weights

from spikeclip.data.draws import Draws
from spikeclip.data.images import Images
from spikeclip.data.mix import mix, partners
from spikeclip.data.transforms import augment, normalize
from spikeclip.errors import InputError
from spikeclip.train import feed as feed_module
from spikeclip.train.feed import Feed
from spikeclip.train.recipe_checks import check_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stage(prepared):
    return prepared(
        {"stage": "align_image", "batch_size": 12, "epochs": 3, "augment": {"cutout": 8, "flip": "random"}}
    ).stage()


def equal(one, other) -> bool:
    sides = list(zip(one, other, strict=True))
    same_names = all(a.keys() == b.keys() for a, b in sides)
    return same_names and all(torch.equal(a[name], b[name]) for a, b in sides for name in a)


def test_a_batch_is_the_augmented_pictures_of_its_samples_and_what_the_stage_says_of_them(stage):
    epoch, indices = 2, torch.tensor([5, 90, 17])
    inputs, targets = Feed(stage, CPU).batch(epoch, indices)
    pixels = torch.from_numpy(stage.images[indices.numpy()])
    mean, std = stage.normalization
    changed = augment(pixels, stage.config.augment, Draws(stage.seed, epoch, indices), mean)
    assert torch.equal(inputs["images"], normalize(changed, mean, std))
    assert equal((targets,), (stage.batch(indices, epoch)[1],))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_targets_are_mixed_as_the_pictures_are(kind, prepared):
    augmented = {"crop": 2, "flip": "random", "colour": 2, "mix": kind, "mix_share": 0.8}
    settings = {"stage": "finetune", "share": 0.5, "augment": augmented, "loss": {"keep": 1.0}}
    stage = prepared(settings).stage()
    feed, indices = Feed(stage, CPU), torch.arange(0, 60, 2)
    inputs, targets = feed.batch(1, indices)
    draws = Draws(stage.seed, 1, indices)
    others = feed.steps.used[partners(draws, 81)]  # of the half of the 162 samples that the stage uses
    plain = prepared({**settings, "augment": {**augmented, "mix": "none"}}).stage()
    (own_x, own), (other_x, other) = (Feed(plain, CPU).batch(1, i) for i in (indices, others))
    config = stage.config.augment
    mixed, share = mix(own_x["images"], other_x["images"], config, draws)
    assert torch.equal(inputs["images"], mixed)
    assert 0.05 < (share == 1).float().mean() < 0.5
    for i, part in enumerate(share):
        label = torch.zeros(6)
        label[own["label"][i]] += part
        label[other["label"][i]] += 1 - part
        torch.testing.assert_close(targets["label"][i], label)
        for name in ("teacher", "before"):
            torch.testing.assert_close(targets[name][i], part * own[name][i] + (1 - part) * other[name][i])


@pytest.mark.parametrize("mode", ["resident", "mapped"])
def test_mixed_pictures_are_the_same_in_every_feed(mode, prepared):
    augmented = {"colour": 1, "mix": "cutmix"}
    stage = prepared({"stage": "finetune", "batch_size": 12, "augment": augmented}).stage()
    feeds = [Feed(stage, CPU, mode, (rank, 2)) for rank in range(2)]
    for feed in feeds:
        feed.block = 2**17
    whole = Feed(stage, CPU)
    made = [list(feed.batches(feed.steps.after(3))) for feed in feeds]
    for planned, *parts in zip(whole.steps.after(3), *made, strict=True):
        inputs, targets = whole.batch(*planned)
        images = torch.cat([part[0]["images"] for part in parts])
        torch.testing.assert_close(images, inputs["images"], atol=0.03, rtol=0)  # a mean rounds otherwise
        assert torch.equal(torch.cat([part[1]["label"] for part in parts]), targets["label"])


@given(
    st.sampled_from(["resident", "mapped"]),
    st.integers(0, 2**20),
    st.integers(0, 38),
    st.sampled_from([1, 2, 3]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_feed_makes_the_same_batches(stage, kind, block, start, processes):
    """Resident or mapped, however much at a time, from any step on, and shared by any number of processes."""
    feeds = [Feed(stage, CPU, kind, (rank, processes)) for rank in range(processes)]
    for feed in feeds:
        feed.block = block
    assert all(feed.resident == (kind == "resident") for feed in feeds)
    plain = Feed(stage, CPU)
    made = [list(itertools.islice(feed.batches(feed.steps.after(start)), 6)) for feed in feeds]
    planned = list(itertools.islice(plain.steps.after(start), 6))
    assert [len(part) for part in made] == [len(planned)] * processes
    for (epoch, indices), *parts in zip(planned, *made, strict=True):
        whole = tuple(
            {name: torch.cat([part[side][name] for part in parts]) for name in parts[0][side]}
            for side in range(2)
        )
        assert equal(whole, plain.batch(epoch, indices))


def test_a_block_ends_with_its_epoch_and_has_the_bytes_it_may(stage):
    feed = Feed(stage, CPU)
    per_batch = 12 * 32 * 32 * 3
    feed.block = 4 * per_batch + 1
    sizes = [(epoch, len(parts)) for epoch, parts in feed._blocks(feed.steps.after(0))]
    assert sizes == [(epoch, count) for epoch in range(3) for count in (4, 4, 4, 1)]
    feed.block = 1
    assert {len(parts) for _, parts in feed._blocks(feed.steps.after(0))} == {1}


def test_texts_come_without_pictures(prepared):
    stage = prepared({"stage": "align_text", "batch_size": 16}).stage()
    for kind in ("resident", "mapped"):
        feed = Feed(stage, CPU, kind)
        inputs, _ = feed.batch(0, torch.arange(16))
        assert not feed.resident
        assert inputs.keys() == {"tokens"}


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("feed")}


def test_mapped_pictures_are_read_ahead_by_a_thread_that_ends_with_the_batches(stage, monkeypatch):
    read, by = [], set()
    find = Images.__getitem__

    def watch(images, key):
        read.append(len(np.atleast_1d(key)))
        by.add(threading.current_thread().name)
        return find(images, key)

    monkeypatch.setattr(Images, "__getitem__", watch)
    feed = Feed(stage, CPU, "mapped")
    batches = feed.batches(feed.steps.after(0))
    next(batches)
    assert threads()
    batches.close()
    assert not threads()
    assert len(read) <= 1 + feed_module.AHEAD
    assert by
    assert all(name.startswith("feed") for name in by)


def test_what_a_thread_cannot_read_stops_the_training(stage, monkeypatch):
    def broken(images, key):
        raise OSError("the disk is gone")

    feed = Feed(stage, CPU, "mapped")
    monkeypatch.setattr(Images, "__getitem__", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        feed.batch(0, torch.arange(3))
    assert not threads()


def test_resident_pictures_need_room(stage, monkeypatch):
    monkeypatch.setattr(feed_module.os, "sysconf", lambda name: 100)
    with pytest.raises(
        InputError, match=r"feed is resident, but the pictures take 0\.0 GB .* set feed=mapped"
    ):
        Feed(stage, CPU, "resident")
    assert not Feed(stage, CPU, "auto").resident


@pytest.mark.parametrize(("free", "resident"), [(10**9, True), (10**6, False)])
def test_auto_is_resident_on_a_gpu_where_there_is_room(stage, free, resident, monkeypatch):
    size = int(np.prod(stage.images.shape))
    assert 0.25 * 10**6 < size < 0.25 * 10**9
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**10))
    assert feed_module._is_resident("auto", size, torch.device("cuda")) == resident
    assert not feed_module._is_resident("mapped", size, torch.device("cuda"))


def test_a_run_is_the_same_with_either_feed(run):
    stages = {"stage": "align_image"}, {"stage": "finetune", "recompute_statistics": True}
    made = [run(*stages, out=kind, feed=kind)[1] for kind in ("resident", "mapped")]
    assert weights(made[0]) == weights(made[1])
    losses = [[row.get("loss", row.get("train_loss")) for row in rows(folder)] for folder in made]
    assert losses[0] == losses[1]


def test_a_recipe_names_one_of_the_feeds(config):
    with pytest.raises(InputError, match=r"feed.*streamed"):
        config({"stage": "align_image"}, feed="streamed")


def test_a_run_learns_from_mixed_and_recoloured_pictures(run):
    augmented = {"mix": "cutmix", "colour": 1, "strength": 0.2}
    result, _ = run({"stage": "finetune", "epochs": 8, "augment": augmented, "ema": 0.5})
    assert result["stages"][0]["best"] > 0.4  # chance is 1/6


@pytest.mark.parametrize(
    ("stage", "model", "message"),
    [
        (
            {"stage": "align_image", "augment": {"mix": "mixup"}},
            {},
            r"stages\.0\.augment\.mix mixes classes, which stage finetune alone",
        ),
        (
            {"stage": "finetune", "augment": {"colour": 1}},
            {"image": {"event_frames": 1}},
            r"stages\.0\.augment\.colour changes colours, and event recordings have none",
        ),
        (
            {"stage": "finetune", "augment": {"mix_share": 1.5}},
            {},
            r"mix_share must be a number between 0 and 1",
        ),
        ({"stage": "finetune", "ema": 1.0}, {}, r"ema must be a number at least 0 and below 1"),
    ],
    ids=str,
)
def test_what_cannot_be_mixed_or_recoloured_is_said_with_its_key(stage, model, message, config):
    with pytest.raises(InputError, match=message):
        check_run(config(stage, model=model))
