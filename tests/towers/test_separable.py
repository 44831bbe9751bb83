"""The separable tower: padding, levels at each place, ranges of channels, and what cannot be built."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeclip import create_model
from spikeclip.errors import InputError
from spikeclip.neurons import ILIF, Neuron, record, relu_phase
from spikeclip.towers.separable import SeparableConv, same_padding

WIDTHS = [8, 8, 8, 8, 12, 12, 16, 16, 32]


@given(side=st.integers(1, 400), kernel=st.integers(1, 7), stride=st.integers(1, 4))
def test_same_padding_covers_every_position_once(side, kernel, stride):
    before, after = same_padding(side, kernel, stride)
    assert (side + before + after - kernel) // stride + 1 == -(-side // stride)
    assert 0 <= after - before <= 1
    assert before + after < kernel or (before, after) == (0, 0)


def test_a_stride_halves_odd_and_even_sides():
    conv = SeparableConv(2, 2, 3, 2, depthwise=True)
    for side, halved in ((9, 5), (10, 5)):
        assert conv(torch.zeros(1, 1, 2, side, side)).shape == (1, 1, 2, halved, halved)


def test_every_place_has_its_own_levels():
    model = create_model(
        "spikeclip-lite0",
        image={"widths": WIDTHS, "repeats": [1, 1, 1, 1, 1, 1, 1], "image_size": 40},
        first_D=[16, 4],
        D=6,
    )
    neurons = {name: m for name, m in model.image.named_modules() if isinstance(m, ILIF)}
    assert [m.D for m in neurons.values()] == [16, 4] + [6] * (len(neurons) - 2)
    assert list(neurons)[:2] == ["stem_spike", "blocks.0.filter_spike"]
    assert [name for name, m in neurons.items() if m.signed] == [
        *(f"blocks.{i}.spike" for i in range(1, 7)),
        "spike",
    ]
    with pytest.raises(
        InputError, match="first_D has 100 values, and the image tower 22 neurons with levels"
    ):
        create_model(
            "spikeclip-lite0", image={"widths": WIDTHS, "repeats": [1, 1, 1, 1, 1, 1, 1]}, first_D=[4] * 100
        )


def test_many_levels_approach_the_ordinary_network(small, pictures):
    """Levels of a fine grid are the ReLU6 activations, signed ones the stream itself: block by block."""
    ordinary = small("spikeclip-lite0", neuron="relu")
    fine = small("spikeclip-lite0", neuron="ilif", D=255, range=1.0)
    streams = []
    with torch.no_grad():
        for _, neuron in _neurons(ordinary.image):
            neuron.range_C.fill_(1)
        fine.load_state_dict(ordinary.state_dict())
        for block in ordinary.image.blocks:
            block.register_forward_hook(lambda block, inputs, output: streams.append((inputs[0], output)))
        with record(ordinary.image, lambda neuron, s_TX: s_TX.abs().max()) as most:
            ordinary.encode_image(pictures)
        for name, neuron in _neurons(fine.image):
            neuron.range_C.fill_(float(most[name]))
            _reader(fine.image, name).mul_(float(most[name]))
        for block, (x, expected) in list(zip(fine.image.blocks, streams, strict=True))[1:]:
            assert ((block(x) - expected).norm() / expected.norm()) < 0.05


def _neurons(tower):
    return [(name, module) for name, module in tower.named_modules() if isinstance(module, Neuron)]


def _reader(tower, name):
    """Return the weights that read a neuron's spikes."""
    block, _, place = name.rpartition(".")
    names = {"spike": "expand", "expand_spike": "filter", "filter_spike": "project"}
    if block:
        return getattr(tower.get_submodule(block), names[place]).conv.weight
    if place == "head_spike":
        return tower.readout.linear.weight
    return (tower.head if place == "spike" else tower.blocks[0].filter).conv.weight


def test_a_signed_stream_passes_the_relu_phase(small, pictures):
    model = small("spikeclip-lite0", neuron="ilif", range=1.0)
    x = torch.randn(1, 2, model.image.spike.range_C.numel(), 3, 3, dtype=torch.float64)
    with relu_phase(model.image):
        torch.testing.assert_close(model.image.spike(x), x / model.image.spike.range_C[:, None, None])


@pytest.mark.parametrize(
    ("image", "error"),
    [
        ({"widths": [8, 8]}, "got 2 widths"),
        ({"repeats": [2, 1, 1, 1, 1, 1, 1]}, "1 of the first"),
        ({"repeats": [1, 1, 1, 0, 1, 1, 1]}, "at least 1 of the others"),
        ({"depth": 2}, "image.depth is 0, not 2"),
    ],
)
def test_parts_that_do_not_fit(image, error):
    with pytest.raises(InputError, match=error):
        create_model("spikeclip-lite0", image=image)
