"""The verifier sees what is no spike, and I-LIF is its binary sub-steps."""

import dataclasses

import numpy as np
import pytest

from spikeclip.errors import InputError
from spikeclip.graph import Graph, ops
from spikeclip.graph.lower import lower
from spikeclip.graph.verify import operands, verify


def channels_last(pictures):
    return pictures.permute(0, 2, 3, 1).numpy().astype(np.float32)


@pytest.mark.parametrize("preset", ["spikeclip-paper", "spikeclip-base", "spikeclip-tiny", "spikeclip-lite0"])
@pytest.mark.parametrize(("neuron", "T", "kind"), [("lif", 2, "binary"), ("ilif", 2, "integer")])
def test_towers_spike_but_for_stem_and_readout(small, pictures, tokens, preset, neuron, T, kind):
    model = small(preset, neuron=neuron, T=T, D=3)
    image, text = lower(model.image, model.config.image), lower(model.text)
    for tower, inputs in ((image, channels_last(pictures)), (text, tokens.numpy())):
        found, substeps = verify(tower, inputs)
        assert all(s.sound for s in found)
        assert {s.kind for s in found if not s.exception} == {kind}
        assert {s.exception for s in found} <= {"", "stem", "readout"}
        signed = any(isinstance(op, ops.Neuron) and op.signed for op in tower.ops)
        assert (substeps is None) == (neuron == "lif" and not signed)
        if substeps is not None:
            assert substeps.equal
            assert substeps.neurons > 100
            assert substeps.rounding < 100
    assert [s.exception for s in operands(image)].count("stem") == 1


def test_a_relu_network_does_not_spike(small):
    model = small("spikeclip-tiny", neuron="relu")
    found = operands(lower(model.image, model.config.image))
    assert next(s.op for s in found if not s.sound) == "groups.0.conv"


def test_a_value_between_neuron_and_product_is_found(small, pictures):
    model = small("spikeclip-tiny", neuron="ilif", T=1)
    graph = lower(model.image, model.config.image)
    reader = next(op for op in graph.ops if op.name == "groups.2")
    place = graph.ops.index(reader)
    scaled = ops.Scale("halved", reader.inputs, 0.5)
    changed = Graph(
        [*graph.ops[:place], scaled, dataclasses.replace(reader, inputs=("halved",)), *graph.ops[place + 1 :]]
    )
    found, _ = verify(changed, channels_last(pictures))
    assert [(s.op, s.reads, s.kind) for s in found if not s.sound] == [("groups.2", "halved", "real")]


def test_spikes_above_the_declared_level_are_found(small, pictures):
    graph = lower(small("spikeclip-tiny", neuron="ilif", T=1, D=4).image)
    found, _ = verify(graph, channels_last(pictures))
    operand = next(s for s in found if s.D == 4 and s.seen[1] > 2)
    assert not dataclasses.replace(operand, D=2).sound
    assert not dataclasses.replace(operand, whole=False).sound


def test_no_pictures(small):
    with pytest.raises(InputError, match="no pictures"):
        verify(lower(small("spikeclip-tiny").image), np.zeros((0, 32, 32, 3), np.float32))
