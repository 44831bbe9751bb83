"""Rounded weights are those of the int8 engine, and a network can be trained with them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spikeclip.engine import Engine
from spikeclip.graph.lower import lower
from spikeclip.graph.store import quantize
from spikeclip.neurons import record
from spikeclip.towers.norm import ConvBN
from spikeclip.towers.synapses import Conv2d, Linear, int8_weights, round_weight


def recordings(frames):
    """Settings of a model that reads recordings of so many frames, or pictures; at a threshold of 1 few LIF fire."""
    return {"T": frames, "image": {"event_frames": frames}, "v_threshold": 0.5} if frames else {}


def test_rounding_is_the_engines_and_gradients_pass_through():
    weight = torch.randn(6, 4, 3, 3, requires_grad=True)
    rounded = round_weight(weight)
    levels_IO, scale_O = quantize(weight.detach().flatten(1).T.numpy())
    np.testing.assert_allclose(rounded.detach().flatten(1).T.numpy(), levels_IO * scale_O, rtol=1e-5)
    rounded.mul(3).sum().backward()
    assert (weight.grad == 3).all()


@pytest.mark.parametrize("frames", [None, 3])
@pytest.mark.parametrize("preset", ["spikeclip-tiny", "spikeclip-base"])
@pytest.mark.parametrize("neuron", ["ilif", "lif"])
def test_the_tower_fires_as_the_int8_engine_does(preset, neuron, frames, small):
    model = small(preset, neuron=neuron, **recordings(frames)).float()
    images = torch.randn(frames, 4, 2, 32, 32) if frames else torch.randn(4, 3, 32, 32)
    channels_last = images.permute(1, 3, 4, 0, 2) if frames else images.permute(0, 2, 3, 1)
    engine = Engine(lower(model.image, model.config.image), precision="int8", mode="events")
    fired = {}
    ours = engine(channels_last.numpy(), lambda name, spikes: fired.update({name: (spikes > 0).mean()}))

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


@pytest.mark.parametrize("frames", [None, 3])
def test_the_layer_that_reads_pixels_keeps_its_weights(frames, small):
    """Of pictures and of event recordings, whose two channels are no spikes either."""
    model = small("spikeclip-base", **recordings(frames)).float()
    first, second = (model.image.stem.convs[i].conv for i in range(2))
    pixels, spikes = torch.randn(2, 2 if frames else 3, 32, 32), torch.rand(2, 4, 32, 32).round()
    with torch.no_grad():
        exact, exact_second = first(pixels), second(spikes)
        with int8_weights(model):
            assert torch.equal(first(pixels), exact)
            rounded = F.conv2d(spikes, round_weight(second.weight), padding=1)
            assert torch.equal(second(spikes), rounded)
            assert not torch.equal(rounded, exact_second)
        assert torch.equal(second(spikes), exact_second)


@pytest.mark.parametrize("frames", [None, 3])
def test_every_layer_that_reads_spikes_is_rounded_and_no_other(frames, small):
    """The engine and the towers agree on what a synapse is, layer by layer."""
    for preset in ("spikeclip-tiny", "spikeclip-base", "spikeclip-paper"):
        model = small(preset, neuron="ilif", **recordings(frames))
        for tower, config in ((model.image, model.config.image), (model.text, None)):
            engine = Engine(lower(tower, config), precision="int8", mode="events")
            rounded = {n for n, m in tower.named_modules() if isinstance(m, (Conv2d, Linear))}
            assert {step.name for step in engine.synapses()} == {
                name.removesuffix(".linear") if name.endswith(".linear") else _op(tower, name)
                for name in rounded
            }


def _op(tower, name):
    """Return the name that lowering gives the operation of a module."""
    parent = tower.get_submodule(name.rpartition(".")[0])
    folded = isinstance(parent, ConvBN) and parent.pool_first is None
    return name.removesuffix(".conv") if folded else name
