"""Rounded weights are those of the int8 engine, and a network can be trained with them."""

import numpy as np
import pytest
import torch

from spikeclip.engine import Engine
from spikeclip.engine.plan import quantize
from spikeclip.graph.lower import lower
from spikeclip.neurons import record
from spikeclip.towers.synapses import int8_weights, round_weight


def test_rounding_is_the_engines_and_gradients_pass_through():
    weight = torch.randn(6, 4, 3, 3, requires_grad=True)
    rounded = round_weight(weight)
    levels_IO, scale_O = quantize(weight.detach().flatten(1).T.numpy())
    np.testing.assert_allclose(rounded.detach().flatten(1).T.numpy(), levels_IO * scale_O, rtol=1e-5)
    rounded.mul(3).sum().backward()
    assert (weight.grad == 3).all()


@pytest.mark.parametrize("preset", ["spikeclip-tiny", "spikeclip-base"])
@pytest.mark.parametrize("neuron", ["ilif", "lif"])
def test_the_tower_fires_as_the_int8_engine_does(preset, neuron, small):
    model = small(preset, neuron=neuron).float()
    images = torch.randn(4, 3, 32, 32)
    engine = Engine(lower(model.image, model.config.image), precision="int8", mode="events")
    fired = {}
    ours = engine(
        images.permute(0, 2, 3, 1).numpy(), lambda name, spikes: fired.update({name: (spikes > 0).mean()})
    )

    def density(neuron, s_TX):
        return (s_TX > 0).float().mean()

    with torch.no_grad():
        with int8_weights(model), record(model.image, density) as expected:
            made = model.image(images)
        with record(model.image, density) as exact:
            free = model.image(images)
    for name, share in fired.items():
        assert share == pytest.approx(expected[name].item(), abs=1e-3)
    assert any(share != pytest.approx(exact[name].item(), abs=1e-5) for name, share in fired.items())
    error, without = (np.abs(y.numpy() - ours).max() for y in (made, free))
    assert error < 0.2 * without


def test_the_layer_that_reads_the_picture_keeps_its_weights(small):
    model = small("spikeclip-base").float()
    first = model.image.stem.convs[0].conv
    with int8_weights(model):
        assert not first.rounded
        assert model.image.stem.convs[1].conv.rounded
    assert not model.image.stem.convs[1].conv.rounded
