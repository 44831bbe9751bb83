"""A separable tower on the engine: by events, and whole on OpenVINO."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba (extra runtime) is not installed")

from spikeclip.engine import Engine
from spikeclip.engine.openvino_graph import sums_pixels
from spikeclip.engine.whole import fits
from spikeclip.errors import InputError
from spikeclip.graph import execute, ops
from spikeclip.graph.inputs import normalized
from spikeclip.graph.lower import lower
from spikeclip.graph.ops import Graph
from spikeclip.graph.store import quantize


def rounded(graph, *, stem=False):
    """Return the graph with the weights that int8 engines have; those of a stem too that sums pixels."""
    neurons = {op.name for op in graph.ops if isinstance(op, ops.Neuron)} | (
        {graph.input.name} if stem else set()
    )

    def of(weight):
        level, scale = quantize(weight.reshape(-1, weight.shape[-1]))
        return (level * scale).reshape(weight.shape)

    changed = []
    for op in graph.ops:
        if isinstance(op, ops.Depthwise):
            op = dataclasses.replace(op, weight_RSC=of(op.weight_RSC))
        elif isinstance(op, ops.Conv) and op.inputs[0] in neurons:
            op = dataclasses.replace(op, weight_RSIO=of(op.weight_RSIO))
        changed.append(op)
    return Graph(changed)


def spikes(graph, inputs):
    found = {}
    execute(graph, inputs, lambda op, x: found.update({op.name: x}) if isinstance(op, ops.Neuron) else None)
    return found


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(("neuron", "T"), [("ilif", 1), ("ilif", 2), ("lif", 3), ("quant_relu", 1)])
def test_events_fire_the_spikes_of_the_graph(small, pixels, neuron, T, precision):
    model = small("spikeclip-lite0", neuron=neuron, T=T, v_threshold=0.4)
    graph = lower(model.image, model.config.image)
    x = normalized(graph.input, pixels)
    expected, seen = spikes(rounded(graph) if precision == "int8" else graph, x), {}
    out = Engine(graph, precision=precision, mode="events")(pixels, seen.__setitem__)
    assert seen.keys() == expected.keys()
    for name, s_TX in expected.items():  # rounding may move a spike, and what follows from it
        assert np.mean(seen[name] != s_TX) < 0.01, name
    assert any((s_TX < 0).any() for s_TX in seen.values())
    reference = execute(rounded(graph) if precision == "int8" else graph, x)
    np.testing.assert_allclose(out, reference, atol=0.05 * np.abs(reference).max())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("D", [3, 8])
@pytest.mark.parametrize("mean", [(0.4980392156862745,) * 3, (0.5, 0.4, 0.3)])
def test_the_whole_network_on_openvino_is_the_graph(small, pixels, precision, D, mean):
    """A mean that is a pixel (127) lets the stem sum bytes; the border of a picture must be 0 then too."""
    pytest.importorskip("openvino", reason="openvino (extra openvino) is not installed")
    model = small("spikeclip-lite0", neuron="ilif", D=D, image={"mean": mean})
    graph = lower(model.image, model.config.image)
    engine = Engine(graph, precision=precision, threads=1)
    assert engine.whole is not None
    x = normalized(graph.input, pixels)
    reference = execute(rounded(graph, stem=sums_pixels(graph.input)) if precision == "int8" else graph, x)
    for given in (pixels, x):  # a group of four, and the fifth by itself
        np.testing.assert_allclose(engine(given), reference, atol=1e-4 * np.abs(reference).max())
    pixels.flags.writeable = False
    np.testing.assert_array_equal(engine(pixels[:1]), engine(pixels)[:1])
    for wrong in (pixels[:, 1:], pixels[:0], x[:, 1:]):
        with pytest.raises(InputError, match="pictures"):
            engine(wrong)


def test_a_whole_network_answers_several_threads_at_once(small, pixels):
    pytest.importorskip("openvino", reason="openvino (extra openvino) is not installed")
    model = small("spikeclip-lite0")
    engine = Engine(lower(model.image, model.config.image), threads=1)
    expected = engine(pixels)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(engine, [pixels] * 8):
            np.testing.assert_array_equal(found, expected)


def test_what_runs_whole(small):
    for neuron, T, whole in (("ilif", 1, True), ("ilif", 2, False), ("lif", 2, False), ("relu", 1, False)):
        model = small("spikeclip-lite0", neuron=neuron, T=T)
        assert fits(lower(model.image, model.config.image)) == whole
    tiny = small("spikeclip-tiny")
    assert fits(lower(tiny.image, tiny.config.image))
    assert not fits(lower(tiny.text))
