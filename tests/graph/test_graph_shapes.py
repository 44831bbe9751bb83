"""The inferred shapes are those of the values that the dense executor computes."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeclip.errors import InputError
from spikeclip.graph import Graph, execute, ops, to_substeps
from spikeclip.graph.lower import lower
from spikeclip.graph.shapes import shapes
from tests.engine.random_graphs import image_graph, pictures

PRESETS = ("spikeclip-paper", "spikeclip-base", "spikeclip-tiny", "spikeclip-lite0")
NEURONS = (("lif", 1), ("lif", 4), ("plif", 2), ("ilif", 1), ("ilif", 3), ("relu", 1), ("quant_relu", 1))


def executed(graph, inputs):
    """Return the shapes that `execute` shows to its `watch`, without the batch."""
    found = {}

    def watch(op, value):
        assert value.shape[1] == len(inputs)
        found[op.name] = (value.shape[0], *value.shape[2:])

    execute(graph, inputs, watch)
    return found


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("neuron", "T"), NEURONS)
def test_shapes_of_both_towers(small, preset, neuron, T):
    model = small(preset, neuron=neuron, T=T)
    image, text = lower(model.image, model.config.image), lower(model.text)
    for graph in (image, to_substeps(image)):
        assert shapes(graph) == executed(graph, normal(2, 32, 32, 3))
    for graph in (text, to_substeps(text)):
        full = executed(graph, np.zeros((2, text.input.length), np.int64))
        assert shapes(graph) == full
        for length in (1, 5):
            expected = executed(graph, np.zeros((2, length), np.int64))
            assert shapes(graph, (length,)) == expected
            assert (expected == full) == text.input.exact


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("frames", [1, 3])
def test_shapes_of_recordings(small, preset, frames):
    model = small(preset, neuron="ilif", T=3, image={"event_frames": frames})
    image = lower(model.image, model.config.image)
    recordings = normal(2, *model.config.image.shape)
    for graph in (image, to_substeps(image)):
        assert shapes(graph) == shapes(graph, recordings.shape[1:]) == executed(graph, recordings)


@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["lif", "ilif"]),
    T=st.integers(1, 3),
    frames=st.booleans(),
    size=st.sampled_from([(5, 7), (6, 6), (3, 9)]),
)
@settings(max_examples=25)
def test_shapes_of_random_graphs(seed, kind, T, frames, size):
    graph = image_graph(seed, kind, T, size, frames=T if frames else None)
    x = pictures(seed, 2, size, T if frames else 1)
    assert shapes(graph) == executed(graph, x)
    same = Graph([replace(op, D=2) if isinstance(op, ops.Neuron) else op for op in graph.ops])
    binary = to_substeps(same)  # attention needs as many sub-steps in q, k and v
    assert shapes(binary) == executed(binary, x)


@given(
    size=st.tuples(st.integers(4, 12), st.integers(4, 12)),
    window=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
)
def test_strides_and_windows(size, window, stride, padding):
    conv = ops.Conv(
        "conv", ("image",), normal(window, 3, 3, 5), normal(5), padding=min(padding, window), stride=stride
    )
    pool = ops.MaxPool("pool", ("image",), window, stride, min(padding, window - 1))
    graph = Graph([ops.Image("image", (), (*size, 3)), conv, pool])
    assert shapes(graph) == executed(graph, normal(2, *size, 3))


def test_inputs_that_a_graph_does_not_read(small):
    model = small("spikeclip-tiny")
    image, text = lower(model.image, model.config.image), lower(model.text)
    with pytest.raises(InputError, match=r"expected a picture of shape \(32, 32, 3\), got \(16, 32, 3\)"):
        shapes(image, (16, 32, 3))
    for shape in ((78,), (0,), (1, 8)):
        with pytest.raises(InputError, match=r"expected the shape of 1 to 77 tokens, \(L,\)"):
            shapes(text, shape)


def test_what_has_no_shape_is_named():
    @dataclass(frozen=True, eq=False)
    class Dream(ops.Op):
        pass

    image = ops.Image("image", (), (4, 4, 2))
    with pytest.raises(InputError, match="dream: no rule for the shape of a Dream"):
        shapes(Graph([image, Dream("dream", ("image",))]))
    reshape = ops.Reshape("tokens", ("image",), (-1, 5))
    with pytest.raises(InputError, match=r"tokens: \(4, 4, 2\) cannot be reshaped to \(-1, 5\)"):
        shapes(Graph([image, reshape]))
    with pytest.raises(InputError, match=r"sum: .* cannot be added"):
        shapes(Graph([image, replace(reshape, shape=(-1, 2)), ops.Add("sum", ("image", "tokens"))]))
