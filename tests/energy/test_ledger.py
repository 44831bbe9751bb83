"""Ledgers of three tiny networks against sums done by hand, and the published tower against the literature.

The hand-made constants are round, so that the arithmetic can be followed: fp32 add 1, multiply 10, accumulate 2 pJ;
int8 add 1, multiply 2, accumulate 1; int32 add 1, multiply 2; one memory whose every 64-bit word costs 64 pJ, so
a bit costs 1 pJ.
"""

import math

import numpy as np
import pytest

from spikeclip.energy import Network, counts, joules, ledger, load_conventions
from spikeclip.errors import InputError
from spikeclip.graph import Graph, ops

BY_HAND = load_conventions(
    arithmetic={
        "fp32": {"bits": 32, "add": 1, "multiply": 10, "accumulate": 2},
        "int8": {"bits": 8, "add": 1, "multiply": 2, "accumulate": 1},
        "int32": {"bits": 32, "add": 1, "multiply": 2, "accumulate": 1},
    },
    sram_KiB=[1000, 1001],
    sram_pJ=[64, 64],
)
SPIKING, SPIKING8 = Network("spiking", True), Network("spiking int8", True, "int8")
ANN, ANN8, ANN3 = (
    Network("ann", False),
    Network("ann int8", False, "int8"),
    Network("3 bits", False, "int8", 3),
)


def pJ(network, level, counted, spikes, conventions=BY_HAND):
    return joules(ledger(counted, spikes, network, level, conventions)) * 1e12


def ones(*shape):
    return np.ones(shape, np.float32)


@pytest.fixture
def convolutions():
    """A 4 x 4 picture, a 3x3 convolution to 2 channels, LIF over 2 steps, a 3x3 convolution of stride 2 to 3
    channels and 2 x 2 positions, LIF. 10 spikes behind the first, 5 behind the second."""
    graph = Graph(
        [
            ops.Image("image", (), (4, 4, 1)),
            ops.Conv("conv1", ("image",), ones(3, 3, 1, 2), ones(2), padding=1),
            ops.Neuron("spike1", ("conv1",), "lif", T=2),
            ops.Conv("conv2", ("spike1",), ones(3, 3, 2, 3), ones(3), padding=1, stride=2),
            ops.Neuron("spike2", ("conv2",), "lif", T=2),
        ]
    )
    return counts(graph), {"spike1": 10.0, "spike2": 5.0}


def test_convolutions_of_stride_1_and_2(convolutions):
    # conv1: 16 positions x 9 taps x 1 x 2 = 288 MAC once, 32 outputs. conv2: 4 positions x 9 x 2 x 3 = 216 MAC a step,
    # 32 inputs, 12 outputs; a spike reads 9 x 3 = 27 weights and reaches at most ceil(3/2)^2 x 3 = 12 outputs.
    # L0: 288 x (10 + 1) = 3168; 10 spikes of 2 x 32 places = rate 0.15625, x 216 x 2 steps = 67.5
    # accumulates x 2 = 135.
    assert pJ(SPIKING, "L0", *convolutions) == pytest.approx(3168 + 135)
    # L1: 3168 + 32 biases x 2 = 3232 | LIF: 32 neurons x 2 steps x (10 + 1 + 1) = 768
    #   | conv2: 10 spikes x 12 x 2 = 240, biases 12 x 2 steps x 2 = 48 | LIF: 12 x 2 x 12 = 288
    level1 = 3232 + 768 + 240 + 48 + 288
    assert pJ(SPIKING, "L1", *convolutions) == pytest.approx(level1)
    # L2, no reuse. conv1, real-valued, 32 bits: (288 weights + 288 inputs + 32 outputs) x 32 = 19456, counters 48.
    #   spike1: address of 1 of 32 = 5 bits, 10 spikes x 5 = 50, 10 resets x 1 = 10
    #   conv2: weights 10 x 27 x 32 = 8640; potentials read and written (270 + 2 x 12) x 32 = 9408 each; events
    #   10 x 5 = 50; coordinates 2 x 10 x 3 = 60; targets 270 x 1. spike2: 1 of 12 = 4 bits, 5 x 4 = 20, 5 resets.
    no_reuse = 19456 + 48 + 50 + 10 + 8640 + 2 * 9408 + 50 + 60 + 270 + 20 + 5
    assert pJ(SPIKING, "L2 no reuse", *convolutions) == pytest.approx(level1 + no_reuse)
    # L2, tiled. conv1: (18 weights + 16 inputs + 32 outputs) x 32 = 2112; conv2: 54 weights x 32 = 1728, potentials
    # 24 x 32 = 768 each; the rest as above.
    tiled = 2112 + 48 + 50 + 10 + 1728 + 2 * 768 + 50 + 60 + 270 + 20 + 5
    assert pJ(SPIKING, "L2 tiled", *convolutions) == pytest.approx(level1 + tiled)


def test_convolutions_as_ordinary_networks(convolutions):
    counted, _ = convolutions
    # L0: (288 + 216) MAC x 11. L1: + 44 biases x 2 + 44 ReLUs x 1.
    assert pJ(ANN, "L0", counted, {}) == pytest.approx(504 * 11)
    assert pJ(ANN, "L1", counted, {}) == pytest.approx(504 * 11 + 88 + 44)
    # int8: a MAC is 2 + 1; with 3 bits of activation 2 x 3/8 + 1 = 1.75. Biases x 1; requantising: 10 + 1 + 1.
    assert pJ(ANN8, "L1", counted, {}) == pytest.approx(504 * 3 + 44 + 44 * 12)
    assert pJ(ANN3, "L1", counted, {}) == pytest.approx(504 * 1.75 + 44 + 44 * 12)
    # L2, no reuse: every MAC reads a weight of 8 and an input of 3 bits, outputs are written once with 3; counters.
    memory = 504 * 8 + 504 * 3 + 44 * 3 + (16 + 32 + 32 + 12)
    assert pJ(ANN3, "L2 no reuse", counted, {}) == pytest.approx(504 * 1.75 + 44 + 528 + memory)
    memory = (18 + 54) * 8 + (16 + 32) * 3 + 44 * 3 + 92
    assert pJ(ANN3, "L2 tiled", counted, {}) == pytest.approx(504 * 1.75 + 44 + 528 + memory)


def test_the_first_layer_in_every_step(convolutions):
    conventions = load_conventions(**{"first_layer": "every_step"})
    counted, spikes = convolutions
    rows = ledger(counted, spikes, SPIKING, "L0", conventions)
    assert [(row.op, row.kind, row.count) for row in rows] == [
        ("conv1", "mac", 2 * 288),
        ("conv2", "accumulate", pytest.approx(67.5)),
    ]
    assert ledger(counted, {}, ANN, "L0", conventions)[0].count == 288


def test_linear_with_integer_activations_stream_and_readout():
    """Three texts tokens of 2 channels, I-LIF with D = 4 over 1 step, a linear map back to 2, residual add, mean over
    tokens, readout to 5. 7 units of activation per text."""
    graph = Graph(
        [
            ops.Tokens("text", (), 3, eos_id=0),
            ops.Embedding("embedding", ("text",), ones(9, 2), ones(3, 2)),
            ops.Neuron("spike", ("embedding",), "ilif", T=1, D=4),
            ops.Linear("fc", ("spike",), ones(2, 2), np.zeros(2, np.float32)),
            ops.Add("add", ("embedding", "fc")),
            ops.Mean("mean", ("add",)),
            ops.Readout("time", ("mean",), ones(1)),
            ops.Linear("linear", ("time",), ones(2, 5), ones(5)),
        ]
    )
    counted, spikes = counts(graph), {"spike": 7.0}
    # L0: 7 of 6 places = 7/6 spikes, x 12 MAC = 14 accumulates x 2; the readout does not count.
    assert pJ(SPIKING, "L0", counted, spikes) == pytest.approx(28)
    # L1, weights of 8 bits: position add 6 x 1; I-LIF 6 x (10 + 1 + 4 x 1) = 90; 7 x 2 integer accumulates x 1 = 14, no
    # bias; residual 6 x 1; mean: 2 multiplications x 10 + 4 additions; time 2 x (10 + 1) = 22; readout, real-valued,
    # fp32: 10 MAC x 11 = 110, biases 5 x 1.
    level1 = 6 + 90 + 14 + 6 + 24 + 22 + 110 + 5
    rows = ledger(counted, spikes, SPIKING8, "L1", BY_HAND)
    assert joules(rows) * 1e12 == pytest.approx(level1)
    assert [row.count for row in rows if row.kind == "integer accumulate"] == [14]
    # L2, no reuse. embedding: (12 reads + 6 writes) x 32 = 576. spike: 6 levels of 0 to 4 = 3 bits. fc, by outputs:
    # weights 14 x 8 = 112, inputs 12 MAC x 3 = 36, sums for the add 6 x 32 = 192, tests 12, counters 12. add: 18 x
    # 32 = 576. mean: 8 x 32 = 256. time: 4 x 32 = 128. linear: (10 + 10 + 5) x 32 = 800, counters 7.
    memory = 576 + 18 + 112 + 36 + 192 + 12 + 12 + 576 + 256 + 128 + 800 + 7
    assert pJ(SPIKING8, "L2 no reuse", counted, spikes) == pytest.approx(level1 + memory)
    # L2, tiled. spike: 1 of 6 = 3 bits, 7 x 3. fc: 4 weights x 8, potentials 6 x 32 read and written, events 7 x 3,
    # coordinates 14 x 3, targets 14; linear (10 + 2 + 5) x 32; add, mean, time are fused.
    memory = 576 + 21 + 32 + 2 * 192 + 21 + 42 + 14 + 544 + 7
    assert pJ(SPIKING8, "L2 tiled", counted, spikes) == pytest.approx(level1 + memory)
    # The int8 twin: 6 adds, 6 x 12 requantised, (12 + 10) MAC x 3, 6 adds, mean 24, time 22, biases 5 x 1.
    assert pJ(ANN8, "L1", counted, {}) == pytest.approx(6 + 72 + 66 + 6 + 24 + 22 + 5)


@pytest.mark.parametrize(("T", "between", "membranes"), [(1, "gain", 0), (2, "gain", 2 * 8), (1, "pool", 8)])
def test_a_neuron_of_one_step_stores_no_membrane(T, between, membranes):
    """A 2 x 2 picture, I-LIF, a 1x1 convolution to 2 channels, a gain or a pool, I-LIF. 3 spikes behind the first."""
    graph = Graph(
        [
            ops.Image("image", (), (2, 2, 1)),
            ops.Neuron("spike1", ("image",), "ilif", T=T, D=4),
            ops.Conv("conv", ("spike1",), ones(1, 1, 1, 2), np.zeros(2, np.float32)),
            ops.Gain("gain", ("conv",), ones(2))
            if between == "gain"
            else ops.MaxPool("gain", ("conv",), 2, 2),
            ops.Neuron("spike2", ("gain",), "ilif", T=T, D=4),
        ]
    )
    moved = {
        level: {
            row.what: row.count
            for row in ledger(counts(graph), {"spike1": 3.0, "spike2": 1.0}, SPIKING8, level, BY_HAND)
            if row.op == "conv" and row.kind == "memory"
        }
        for level in ("L2 tiled", "L2 no reuse")
    }
    assert moved["L2 tiled"]["potential reads"] == moved["L2 tiled"]["potential writes"] == membranes
    if T == 1:  # 4 positions x 2 channels of a dense run, and a weight for each spike and channel
        assert moved["L2 no reuse"] == {"weight reads": 3 * 2, "input reads": 8, "sum writes": membranes}
    else:
        found = [moved["L2 no reuse"][f"potential {what}"] for what in ("reads", "writes")]
        assert found == [membranes + 3 * 2] * 2
    alone = Graph(graph.ops[:3])  # what nothing reads is the network's answer, and that is stored
    rows = ledger(counts(alone), {"spike1": 3.0}, SPIKING8, "L2 tiled", BY_HAND)
    assert [row.count for row in rows if "potential" in row.what] == [T * 8] * 2


def test_attention():
    """Four tokens, 2 heads of 2 channels, LIF over 2 steps: q fires 3 times, k 5, v 6."""
    graph = Graph(
        [
            ops.Image("image", (), (2, 2, 4)),
            ops.Reshape("tokens", ("image",), (4, 4)),
            ops.Neuron("q", ("tokens",), "lif", T=2),
            ops.Neuron("k", ("tokens",), "lif", T=2),
            ops.Neuron("v", ("tokens",), "lif", T=2),
            ops.Attention("product", ("q", "k", "v"), num_heads=2, scale=0.5),
        ]
    )
    spikes = {"q": 3.0, "k": 5.0, "v": 6.0}
    cheaper, written = counts(graph), counts(graph, attention_order="written")
    # q (k^T v): two products of 4 tokens x 4 channels x 2 = 32 MAC; a spike of k adds 2 numbers of v, of q 2 of k^T v.
    # (q k^T) v: two products of 2 heads x 4 x 4 x 2 = 64 MAC; a spike of q adds 4 numbers of k, one of v 4 scores.
    assert pJ(ANN, "L0", cheaper, {}) == pytest.approx(64 * 11)
    assert pJ(ANN, "L0", written, {}) == pytest.approx(128 * 11)
    # L0, two steps: spikes / (2 x 16) x 32 x 2 = 2 a spike.
    assert pJ(SPIKING, "L0", cheaper, spikes) == pytest.approx((5 + 3) * 2 * 2)
    assert pJ(SPIKING, "L0", written, spikes) == pytest.approx((3 + 6) * 4 * 2)
    # L1: + 3 layers of 16 LIF x 2 steps x 12 = 1152.
    level1 = 1152 + (5 + 3) * 2 * 2
    assert pJ(SPIKING, "L1", cheaper, spikes) == pytest.approx(level1)
    # L2, no reuse. Neurons: 14 spikes x 4 bits + 14 resets. k^T v (8 sums): 10 numbers x 32, sums read and written
    # (10 + 2 x 8) x 32 = 832 each, events 5 x 4, coordinates 10 x 3, targets 10. q (.) (16 sums): 6 x 32,
    # (6 + 2 x 16) x 32 = 1216 each, 3 x 4, 6 x 3, 6.
    memory = 56 + 14 + (320 + 2 * 832 + 20 + 30 + 10) + (192 + 2 * 1216 + 12 + 18 + 6)
    assert pJ(SPIKING, "L2 no reuse", cheaper, spikes) == pytest.approx(level1 + memory)
    # L2, tiled: 16 numbers of v and 8 of k^T v once, sums 16 and 32 times.
    memory = 56 + 14 + (512 + 2 * 512 + 20 + 30 + 10) + (256 + 2 * 1024 + 12 + 18 + 6)
    assert pJ(SPIKING, "L2 tiled", cheaper, spikes) == pytest.approx(level1 + memory)


def test_memory_energy_is_a_power_of_the_size():
    default = load_conventions()
    kib = 8192
    assert default.access(kib, 64) == default.access(8 * kib, 64) == 10
    assert default.access(16 * kib, 64) == pytest.approx(math.sqrt(10 * 20))
    assert default.access(1024 * kib, 64) == pytest.approx(100)
    assert default.access(4096 * kib, 64) == pytest.approx(100 * 4 ** (math.log(5) / math.log(32)))
    assert default.access(32 * kib, 8) == pytest.approx(20 / 8)
    assert default.access(kib, 32, dram=True) == pytest.approx(default.dram_pJ / 2)


def test_unknown_level(convolutions):
    with pytest.raises(InputError, match="unknown level 'L9'"):
        ledger(*convolutions, SPIKING, "L9", BY_HAND)


@pytest.fixture
def separable():
    """A 4 x 4 picture, a 1x1 convolution to 2 channels with ranges, signed I-LIF (D = 2), a 1x1 convolution to 3
    channels, I-LIF (D = 2), a depthwise 3x3 of stride 2. 6 spikes of ON and OFF neurons, then 8."""
    return counts(
        Graph(
            [
                ops.Image("image", (), (4, 4, 1)),
                ops.Conv("conv1", ("image",), ones(1, 1, 1, 2), ones(2)),
                ops.Gain("range", ("conv1",), ones(2)),
                ops.Neuron("spike1", ("range",), "ilif", D=2, signed=True),
                ops.Conv("conv2", ("spike1",), ones(1, 1, 2, 3), np.zeros(3, np.float32)),
                ops.Neuron("spike2", ("conv2",), "ilif", D=2),
                ops.Depthwise("conv3", ("spike2",), ones(3, 3, 3), ones(3), 0, 1, 2, 1),
            ]
        )
    )


def test_depthwise_and_signed_neurons_by_hand(separable):
    by_op = {count.op: count for count in separable}
    conv2, conv3 = by_op["conv2"], by_op["conv3"]
    assert (conv2.macs, conv2.fan_out, conv2.inputs, conv2.populations) == (16 * 2 * 3, 3, 32, 2)
    assert (conv3.macs, conv3.fan_out, conv3.taps, conv3.weights) == (4 * 9 * 3, 4, 9, 27)
    assert by_op["spike1"].populations == 2
    spikes = {"spike1": 6.0, "spike2": 8.0}
    rows = {(row.op, row.what): row.count for row in ledger(separable, spikes, SPIKING, "L1", BY_HAND)}
    assert rows["conv1", "multiply-accumulates"] == 32
    assert rows["range", "multiplications"] == 32
    assert rows["spike1", "updates"] == 64  # an ON and an OFF neuron for each of 32 values
    assert rows["conv2", "synaptic operations"] == 6 * 3
    assert rows["spike2", "updates"] == 48
    assert rows["conv3", "synaptic operations"] == 8 * 4
    assert rows["conv3", "bias"] == 4 * 3
    # L0: rate x dense multiply-accumulates, 9.1 for a MAC there: 32 MACs of the picture, and accumulates.
    literature = {row.op: row.count for row in ledger(separable, spikes, SPIKING, "L0", BY_HAND)}
    assert literature["conv2"] == pytest.approx(6 / 32 * 96)
    assert literature["conv3"] == pytest.approx(8 / 48 * 108)


def test_an_ordinary_network_has_no_ranges_and_one_neuron_for_two(separable):
    rows = {(row.op, row.what): row.count for row in ledger(separable, {}, ANN, "L2 no reuse", BY_HAND)}
    assert rows["spike1", "updates"] == 32
    assert not any(op == "range" for op, _ in rows)
