"""Our counts of synaptic operations against NeuroBench's effective operations, on the same weights and spikes.

NeuroBench (Yik et al., arXiv 2304.04640) multiplies every layer's non-zero inputs with its non-zero weights and counts
the pairs. Two things differ: it leaves out what a spike at the border of a padded convolution would add outside of
the picture, where our count, as the literature's, takes k^2 C_out for every spike; and it counts an integer
activation once, where ours counts an activation n as the n spikes it stands for.
"""

import numpy as np
import pytest
import torch
from torch import nn

from spikeclip.energy import Network, counts, ledger, load_conventions
from spikeclip.graph import Graph, execute, ops, to_substeps

macs = pytest.importorskip(
    "neurobench.metrics.utils.layers.macs",
    reason="NeuroBench is not installed: pip install --no-deps neurobench snntorch",
)


def graph_of(kind, T, D, padding):
    rng = np.random.default_rng(0)

    def weights(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return Graph(
        [
            ops.Image("image", (), (6, 6, 3)),
            ops.Conv("stem", ("image",), weights(3, 3, 3, 5), weights(5), padding=padding),
            ops.Neuron("spike1", ("stem",), kind, T=T, D=D, range=4.0),
            ops.Conv("conv", ("spike1",), weights(3, 3, 5, 4), weights(4), padding=1),
            ops.Neuron("spike2", ("conv",), kind, T=T, D=D, range=4.0),
            ops.Reshape("flat", ("spike2",), (-1,)),
            ops.Linear("fc", ("flat",), weights(4 * (4 + 2 * padding) ** 2, 7), weights(7)),
        ]
    )


def theirs(op, x):
    """Effective operations of one layer on values (T, B, ..., C), and whether they take it for binary."""
    x = torch.from_numpy(np.asarray(x, np.float64)).flatten(0, 1)
    if isinstance(op, ops.Linear):
        layer = nn.Linear(*op.weight_IO.shape).double()
    else:
        side, _, inputs, outputs = op.weight_RSIO.shape
        layer, x = nn.Conv2d(inputs, outputs, side, padding=op.padding).double(), x.permute(0, 3, 1, 2)
    return macs.single_layer_MACs(x, layer)


def ours(graph, values, pictures):
    spikes = {
        op.name: values[op.name].sum() / len(pictures) for op in graph.ops if isinstance(op, ops.Neuron)
    }
    rows = ledger(counts(graph), spikes, Network("spiking", True), "L1", load_conventions())
    return {
        row.op: row.count * len(pictures)
        for row in rows
        if row.what in ("synaptic operations", "multiply-accumulates")
    }


def run(graph, pictures):
    values = {}
    execute(graph, pictures, lambda op, value: values.update({op.name: value}))
    return values


@pytest.fixture
def pictures():
    return np.random.default_rng(1).normal(size=(3, 6, 6, 3)).astype(np.float32)


def test_binary_spikes(pictures):
    graph = graph_of("lif", 3, 1, padding=0)
    values = run(graph, pictures)
    found = ours(graph, values, pictures)
    assert theirs(graph["fc"], values["flat"]) == (round(found["fc"]), True)
    # Every pixel differs from zero.
    assert theirs(graph["stem"], values["image"]) == (round(found["stem"]), False)
    count, binary = theirs(graph["conv"], values["spike1"])
    assert binary
    assert 0 < count < found["conv"]
    inside = np.zeros_like(values["spike1"])
    inside[:, :, 1:-1, 1:-1] = values["spike1"][
        :, :, 1:-1, 1:-1
    ]  # no spike at the border: nothing to leave out
    assert theirs(graph["conv"], inside)[0] == inside.sum() * 9 * 4


def test_integer_activations_are_the_spikes_of_their_substeps(pictures):
    graph = graph_of("ilif", 1, 4, padding=1)
    values, binary = run(graph, pictures), run(to_substeps(graph), pictures)
    found = ours(graph, values, pictures)
    assert theirs(graph["fc"], binary["flat"]) == (round(found["fc"]), True)
    count, spikes = theirs(graph["fc"], values["flat"])
    assert not spikes
    assert count == np.count_nonzero(values["flat"]) * 7 < found["fc"]
