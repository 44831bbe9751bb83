"""Random small graphs whose arithmetic is exact in float32, so that the order of a sum cannot move a spike."""

import numpy as np

from spikeclip.graph import ops
from spikeclip.graph.ops import Graph


def _weights(rng, *shape):
    """Multiples of 1/64 up to 127/64, with one +-127/64 per output: int8 holds them with a scale of 1/64."""
    weights = rng.integers(-127, 128, shape)
    flat = weights.reshape(-1, shape[-1])
    flat[rng.integers(0, len(flat), shape[-1]), np.arange(shape[-1])] = 127 * rng.choice([-1, 1], shape[-1])
    return (weights / 64).astype(np.float32)


def _bias(rng, outputs, drive):
    """Biases around `drive`: far below zero nothing fires, far above everything does."""
    return (rng.integers(-64, 65, outputs) / 32 + drive).astype(np.float32)


def _neuron(rng, name, source, kind, T):
    if kind == "lif":
        v_reset = [0.0, None, 0.25][rng.integers(3)]
        return ops.Neuron(name, (source,), "lif", T, 2.0, float(rng.choice([0.5, 1.0])), v_reset)
    D = int(rng.choice([1, 2, 4, 8]))
    return ops.Neuron(name, (source,), "ilif", T, 2.0, D=D, range=float(rng.choice([1, 2, 4])))


def image_graph(seed, kind="lif", T=2, size=(5, 7), width=8, heads=2, drive=0.0, frames=None):
    """Two convolutions, a max-pool, a third one, an attention block and an MLP; out comes every token's stream."""
    rng = np.random.default_rng(seed)
    drives = iter(drive + rng.choice([-40.0, -1.0, 0.0, 1.0, 40.0], 12, p=[0.05, 0.2, 0.5, 0.2, 0.05]))
    channels = int(rng.integers(1, 40))
    graph: list[ops.Op] = [ops.Image("image", (), (*size, 3), event_frames=frames)]

    def conv(name, source, inputs, outputs, side, padding):
        weight = _weights(rng, side, side, inputs, outputs)
        graph.append(ops.Conv(name, (source,), weight, _bias(rng, outputs, next(drives)), padding))

    def linear(name, source, inputs, outputs):
        graph.append(
            ops.Linear(name, (source,), _weights(rng, inputs, outputs), _bias(rng, outputs, next(drives)))
        )

    def neuron(name, source):
        graph.append(_neuron(rng, name, source, kind, T))

    conv("conv1", "image", 3, channels, 3, 1)
    neuron("spike1", "conv1")
    conv("conv2", "spike1", channels, width, int(rng.integers(1, 4)), 1)
    pool = ops.MaxPool("pool", ("conv2",), *[(3, 2, 1), (2, 2, 0)][rng.integers(2)])
    graph.append(pool)
    neuron("spike2", "pool")
    conv("conv3", "spike2", width, width, 3, 1)
    graph.append(ops.Reshape("tokens", ("conv3",), (-1, width)))
    neuron("spike", "tokens")
    for name in "qkv":
        linear(name, "spike", width, width)
        neuron(f"{name}_spike", name)
    graph.append(ops.Attention("product", ("q_spike", "k_spike", "v_spike"), heads, 2.0**-4))
    neuron("product_spike", "product")
    linear("proj", "product_spike", width, width)
    graph.append(ops.Add("add1", ("tokens", "proj")))
    neuron("spike3", "add1")
    linear("fc", "spike3", width, width)
    graph.append(ops.Add("add2", ("add1", "fc")))
    graph.append(ops.Reshape("all", ("add2",), (-1,)))
    graph.append(ops.Readout("time", ("all",), np.ones(T, np.float32)))
    return Graph(graph)


def pictures(seed, batch, size, frames=1):
    shape = (batch, *size, *([frames] if frames > 1 else []), 3)
    return (np.random.default_rng(seed).integers(-8, 9, shape) / 8).astype(np.float32)
