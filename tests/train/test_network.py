"""What a layer's spikes cost in the regulariser and in the ledger is the same."""

import numpy as np
import pytest
import torch

from spikeclip.energy import LEVELS, counts, ledger, load_conventions
from spikeclip.energy.compare import SPIKING
from spikeclip.graph.lower import lower
from spikeclip.losses import rate_loss
from spikeclip.train.feed import Feed
from spikeclip.train.network import StageNetwork, driven_accumulates


@pytest.mark.parametrize(
    ("preset", "settings"),
    [("spikeclip-tiny", {"T": 2, "D": 3}), ("spikeclip-base", {"D": 4}), ("spikeclip-paper", {"T": 3})],
)
def test_the_regulariser_is_the_share_of_synaptic_operations(preset, settings, small):
    model = small(preset, **settings).float()
    graph = lower(model.image, model.config.image)
    counted = counts(graph)
    places = {count.source: count.inputs * count.steps for count in counted if getattr(count, "source", None)}
    rng = np.random.default_rng(0)
    rates = {name: float(rate) for name, rate in zip(places, rng.uniform(0, 2, len(places)), strict=True)}

    spikes = {name: rate * places[name] for name, rate in rates.items()}
    rows = ledger(counted, spikes, SPIKING[0], LEVELS[0], load_conventions())
    operations = sum(row.count for row in rows if row.kind == "accumulate")
    every = ledger(counted, places, SPIKING[0], LEVELS[0], load_conventions())
    most = sum(row.count for row in every if row.kind == "accumulate")

    driven = driven_accumulates(model)
    assert {name.split(".")[0] for name in driven} == {"image", "text"}
    measured = {f"image.{name}": torch.tensor(rate) for name, rate in rates.items()}
    assert rate_loss(measured, driven, 0.0).item() == pytest.approx(operations / most, rel=1e-5)


@pytest.mark.parametrize(("neuron", "has"), [("ilif", True), ("relu", False), ("quant_relu", False)])
def test_the_twins_have_no_spikes_to_regularise(neuron, has, prepared):
    stage = {"stage": "finetune", "loss": {"rate": 1.0}}
    made = prepared(stage, model={"neuron": neuron, "T": 1})
    kept = made.stage()
    feed = Feed(kept, torch.device("cpu"))
    terms = StageNetwork(made.model, kept, torch.float32)(*feed.batch(*feed.steps.at(0)))
    assert ("rate" in terms) == has
