"""What a stage keeps for backward is known before it is kept, and computed again only where it is too much."""

import pytest
import torch

from spikeclip.train import memory
from spikeclip.train.feed import Feed
from spikeclip.train.memory import kept_bytes, recomputes
from spikeclip.train.network import StageNetwork

LIF = {"neuron": "lif", "T": 3, "name": "spikeclip-base", "embed_dim": 16}
IMAGE = {"image": {"widths": [4, 4, 8, 8, 16], "depth": 1, "num_heads": 2}}


@pytest.fixture
def network(prepared):
    made = prepared({"stage": "finetune", "batch_size": 40}, model={**LIF, **IMAGE})
    stage = made.stage()
    return StageNetwork(made.model, stage, torch.float32), Feed(stage, torch.device("cpu"))


def test_few_samples_tell_what_many_keep(network):
    network, feed = network
    inputs, _ = feed.batch(*feed.steps.at(0))
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    estimate = kept_bytes(network, inputs)
    assert estimate == pytest.approx(memory._kept(network, inputs), rel=0.02)
    assert estimate > 40 * 3 * 4 * 32 * 32 * 4  # the currents of the first neurons alone
    assert all(torch.equal(value, before[name]) for name, value in network.model.state_dict().items())
    assert network.model.training == network.training
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(("room", "again"), [(10**12, False), (10**5, True)])
def test_a_gpu_computes_again_where_it_lacks_room(network, room, again, monkeypatch):
    network, feed = network
    assert recomputes("auto", network, feed)  # a processor: time is not what it lacks
    batch = feed.batch(*feed.steps.at(0))
    feed.device = torch.device("cuda")
    monkeypatch.setattr(feed, "batch", lambda *_: batch)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (room, room))
    assert recomputes("auto", network, feed) == again
    assert recomputes(True, network, feed)
    assert not recomputes(False, network, feed)
