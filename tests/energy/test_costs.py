"""What a model card says that a picture costs, against the whole account."""

import torch

from spikeclip.config import model_config
from spikeclip.energy.costs import PICTURES, picture_costs
from spikeclip.energy.words import MEANING, amount
from spikeclip.graph.lower import lower
from spikeclip.model import SpikeCLIP


def test_costs_are_those_of_the_account(graphs, accounted, images):
    assert len(images) < PICTURES
    costs = picture_costs(graphs.image, images, "shapes test")
    tower = accounted["energy"]["image"]
    for level, meaning in MEANING.items():
        shown = [f"{name} {amount(of[level])}" for name, of in tower["joules"].items() if level in of]
        assert costs[f"energy at {level}, {meaning}"] == "; ".join(shown)
    assert len([name for name in costs if name.startswith("energy at")]) == 4
    assert costs["multiply-accumulates of a dense run, one time step"] == f"{tower['macs'] / 1e6:.3g} M"
    rate = accounted["spikes"]["mean_rate"]
    assert costs["spikes per neuron and time step"] == f"{rate:.2f}, on 60 pictures of shapes test"
    rows = tower["ledger"]["spiking, fp32 weights"]["L0"]
    operations = sum(row["count"] for row in rows if row["kind"] == "accumulate")
    assert costs["spike-driven synaptic operations"] == f"{operations / 1e6:.3g} M"
    assert "multiply-accumulate 4.6 pJ and accumulate 0.9 pJ in fp32" in costs["constants"]


def test_costs_of_an_ordinary_network(images):
    torch.manual_seed(0)
    model = SpikeCLIP(
        model_config("spikeclip-tiny", neuron="relu", image={"widths": [8]}, embed_dim=16)
    ).eval()
    costs = picture_costs(lower(model.image, model.config.image), images, "shapes test")
    assert not [name for name in costs if "spike" in name]
    joules = costs["energy at L1, counting every operation"]
    assert joules.startswith("fp32 ")
    assert "; int8 " in joules
    assert costs["multiply-accumulates of a dense run, one time step"].endswith(" M")
