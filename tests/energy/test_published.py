"""Counts of the published tower against the literature, and of the ordinary twins against PyTorch's FLOP counter."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spikeclip import create_model
from spikeclip.energy import Network, counts, joules, ledger, load_conventions
from spikeclip.energy.counts import Product
from spikeclip.graph.lower import lower


@pytest.fixture(scope="module")
def published():
    model = create_model("spikeclip-paper", text={"vocab_size": 60, "eos_id": 59})
    return counts(lower(model.image, model.config.image), attention_order="written")


def products(counted):
    return [count for count in counted if isinstance(count, Product)]


def test_multiply_accumulates_of_the_published_tower(published):
    """934.2 M a time step: stem 468.5 M, linear layers 453.0 M, attention 12.6 M, readout."""
    parts = {"stem": 0, "linear": 0, "attention": 0, "readout": 0}
    for product in products(published):
        part = product.op.split(".")[0]
        if part == "blocks":
            part = "attention" if ".product." in product.op else "linear"
        parts[part] += product.macs
    assert parts == {
        # 9 x (3 x 48 + 48 x 96 + 96 x 192) at 32 x 32, 9 x 192 x 384 at 16 x 16, 9 x 384 x 384 at 8 x 8
        "stem": 9 * ((3 * 48 + 48 * 96 + 96 * 192) * 1024 + 192 * 384 * 256 + 384 * 384 * 64),
        "linear": 4 * 64 * (4 * 384 * 384 + 2 * 384 * 1536),
        "attention": 4 * 2 * 64 * 64 * 384,
        "readout": 384 * 512,
    }
    assert [round(part / 1e6, 1) for part in parts.values()] == [468.5, 453.0, 12.6, 0.2]
    assert sum(parts.values()) / 1e6 == pytest.approx(934.2, abs=0.05)


def test_the_literatures_number(published):
    """ "0.0053 GMAC": four times the first convolution, 5,308,416, and a 10-way head with biases, 3,850.

    The first convolution is the only layer of real-valued input that the literature counts; it does so in every
    time step, though the picture does not change. Here it runs once, and L0 leaves the head out.
    """
    neurons = {count.op: 0.0 for count in published}
    every_step = load_conventions(first_layer="every_step")
    spiking = Network("spiking", True)
    macs = [r for r in ledger(published, neurons, spiking, "L0", every_step) if r.kind == "mac"]
    assert [(row.op, row.count) for row in macs] == [("stem.convs.0", 5_308_416)]
    assert macs[0].count + 384 * 10 + 10 == 5_312_266
    once = ledger(published, neurons, spiking, "L0", load_conventions())
    assert joules(once) == pytest.approx(5_308_416 / 4 * 4.6e-12)
    # 0.2459 GAC + 0.0053 GMAC = 0.2457 mJ, as the count was reported
    assert pytest.approx(0.2457e-3, abs=1e-7) == 0.2459e9 * 0.9e-12 + 5_312_266 * 4.6e-12


@pytest.mark.parametrize("preset", ["spikeclip-paper", "spikeclip-base", "spikeclip-tiny"])
def test_pytorch_counts_the_same_operations_in_the_ordinary_twin(preset):
    """Image and text tower, in the order of attention that the towers run (PyTorch counts a MAC as two operations)."""
    settings = {"image": {"depth": 1}, "text": {"vocab_size": 60, "eos_id": 59, "depth": 1}}
    model = create_model(preset, neuron="relu", **settings).eval()
    tokens = np.arange(1, 21)[None]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.image(torch.zeros(1, 3, 32, 32))
    graph = lower(model.image, model.config.image)
    assert 2 * sum(p.macs for p in products(counts(graph))) == counter.get_total_flops()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.text(torch.from_numpy(tokens))
    counted = counts(lower(model.text), tokens.shape[1:])
    assert 2 * sum(p.macs for p in products(counted)) == counter.get_total_flops()
