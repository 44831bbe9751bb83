"""A lowered tower computes what the PyTorch tower computes, and says what it cannot hold."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from spikeclip import load_published
from spikeclip.data import normalize
from spikeclip.errors import InputError
from spikeclip.graph import Graph, execute, to_substeps
from spikeclip.graph.inputs import picture_batches
from spikeclip.graph.lower import lower
from spikeclip.graph.ops import Conv, Image, Neuron
from spikeclip.graph.store import load_graph, save_graph
from spikeclip.neurons import record

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "data" / "golden"
PRESETS = ("spikeclip-paper", "spikeclip-base", "spikeclip-tiny", "spikeclip-lite0")
NEURONS = (("lif", 1), ("lif", 4), ("plif", 4), ("ilif", 1), ("ilif", 3), ("relu", 1), ("quant_relu", 1))


def channels_last(pictures):
    return pictures.permute(0, 2, 3, 1).numpy().astype(np.float32)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("neuron", "T"), NEURONS)
def test_lowered_towers_equal_the_pytorch_towers(small, pictures, tokens, preset, neuron, T):
    model = small(preset, neuron=neuron, T=T)
    with torch.no_grad():
        images, texts = model.encode_image(pictures).numpy(), model.encode_text(tokens).numpy()
    image_graph, text_graph = lower(model.image, model.config.image), lower(model.text)
    np.testing.assert_allclose(execute(image_graph, channels_last(pictures)), images, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(execute(text_graph, tokens.numpy()), texts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("frames", [1, 3])
def test_lowered_towers_read_recordings(small, preset, frames, tmp_path):
    model = small(preset, neuron="lif", T=3, image={"event_frames": frames})
    recordings = np.random.default_rng(0).integers(0, 4, (2, *model.config.image.shape)).astype(np.uint8)
    with torch.no_grad():
        expected = model.encode_image(
            normalize(torch.from_numpy(recordings), *model.config.image.normalization).double()
        )
    save_graph(lower(model.image, model.config.image), tmp_path / "image")
    graph = load_graph(tmp_path / "image")
    (batch,) = picture_batches(graph, recordings)
    np.testing.assert_allclose(execute(graph, batch), expected.numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="expected pictures of shape"):
        execute(graph, batch[:, :-1])
    with pytest.raises(InputError, match="expected pictures of 2 channels, got 3"):
        next(picture_batches(graph, np.zeros((1, 32, 32, 3), np.uint8)))


@pytest.mark.parametrize("preset", PRESETS)
def test_lowered_neurons_fire_at_the_rates_of_the_modules(small, pictures, preset):
    model = small(preset, neuron="ilif", T=2)
    with torch.no_grad(), record(model.image) as rates:
        model.encode_image(pictures)
    counted = {}

    def watch(op, spikes):
        if isinstance(op, Neuron):
            counted[op.name] = np.abs(spikes).mean()

    execute(lower(model.image, model.config.image), channels_last(pictures), watch)
    assert counted.keys() == rates.keys()
    for name, rate in rates.items():
        assert counted[name] == pytest.approx(float(rate), rel=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("T", [1, 3])
def test_binary_substeps_give_the_same_output(small, pictures, tokens, preset, T):
    model = small(preset, neuron="ilif", T=T, D=3)
    for tower, inputs in (
        (lower(model.image, model.config.image), channels_last(pictures)),
        (lower(model.text), tokens.numpy()),
    ):
        steps = []

        def watch(op, spikes, steps=steps):
            if isinstance(op, Neuron):
                assert set(np.unique(spikes)) <= {0, 1}
                steps.append(len(spikes))

        out = execute(to_substeps(tower), inputs, watch)
        assert set(steps) == {3 * T}
        np.testing.assert_allclose(out, execute(tower, inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_strided_convolutions_are_pytorchs(stride):
    rng = np.random.default_rng(0)
    x, weight = (
        rng.normal(size=(2, 7, 8, 3)).astype(np.float32),
        rng.normal(size=(3, 3, 3, 5)).astype(np.float32),
    )
    conv = Conv("conv", ("image",), weight, np.zeros(5, np.float32), padding=1, stride=stride)
    out = execute(Graph([Image("image", (), (7, 8, 3)), conv]), x)
    theirs = torch.nn.functional.conv2d(
        torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(weight).permute(3, 2, 0, 1), None, stride, 1
    )
    np.testing.assert_allclose(out, theirs.permute(0, 2, 3, 1).numpy(), atol=1e-4)


def test_text_padding_does_not_matter(small, tokens):
    graph = lower(small("spikeclip-base").text)
    longer = np.pad(tokens.numpy(), ((0, 0), (0, 5)), constant_values=59)
    np.testing.assert_allclose(execute(graph, longer), execute(graph, tokens.numpy()), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the published network's outputs are not at {GOLDEN}")
def test_published_weights_lower_to_the_published_output():
    for name, prepare in (("image", channels_last), ("text", torch.Tensor.numpy)):
        file = GOLDEN / f"golden_{name}_small.safetensors"
        tensors = load_file(file)
        out = execute(
            lower(load_published(file)), prepare(tensors["input" if name == "image" else "input_ids"])
        )
        assert (np.abs(out - tensors["eval_output"].numpy()) < 1e-4).mean() >= 0.99


def test_what_cannot_be_lowered_is_named(small):
    model = small("spikeclip-base")
    model.image.blocks[0].mlp.fc1 = nn.Linear(16, 32)
    with pytest.raises(InputError, match=r"blocks\.0\.mlp\.fc1: no operation stands for a Linear"):
        lower(model.image)
    with pytest.raises(InputError, match="the tower: no operation stands for a Conv2d"):
        lower(nn.Conv2d(3, 8, 3))


def test_wrong_inputs_are_refused(small, tokens):
    model = small("spikeclip-tiny")
    with pytest.raises(
        InputError, match=r"expected pictures of shape \(B, 32, 32, 3\), got \(2, 16, 32, 3\)"
    ):
        execute(lower(model.image, model.config.image), np.zeros((2, 16, 32, 3), np.float32))
    text = lower(model.text)
    with pytest.raises(InputError, match="vocabulary has 60"):
        execute(text, tokens.numpy() + 30)
    with pytest.raises(InputError, match="at most 77"):
        execute(text, np.zeros((1, 78), np.int64))
    with pytest.raises(InputError, match="token ids of shape"):
        execute(text, np.zeros((1, 8)))


def test_every_operation_follows_its_inputs(small):
    graph = lower(small("spikeclip-tiny").image)
    assert isinstance(graph, Graph)
    seen = set()
    for op in graph.ops:
        assert set(op.inputs) <= seen
        assert op.name not in seen
        seen.add(op.name)
