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
from spikeclip.data.transforms import augment, normalize
from spikeclip.errors import InputError
from spikeclip.train import feed as feed_module
from spikeclip.train.feed import Feed

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
