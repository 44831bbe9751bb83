"""The ledger: what every operation of a network costs at a level, row by row.

Levels (reference of each in `conventions.yaml`):

- L0, the literature's: fp32, a multiply-accumulate for the first layer and an accumulate for every synaptic
  operation (rate x dense multiply-accumulates). Comparable with papers, not a claim.
- L1: every operation, in the arithmetic of the network: products, biases, neurons, residual adds, pools, readout.
- L2: L1 with memory and addresses (Lemaire et al., arXiv 2210.13107, section 3). `L2 no reuse` fetches every operand
  of every operation from its layer's memory, `L2 tiled` fetches each stored number once: two bounds. Neurons of one
  time step have no membrane: without reuse their layer runs output by output, as the ordinary network's does, with the
  sum in a register. It reads every input of an output, tests it, and fetches a weight for each spike.

L3 is a comparison at these levels (`compare`), L4 a measurement (`measure`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spikeclip.energy.conventions import ArithmeticName, Conventions
from spikeclip.energy.counts import Count, Elements, Product
from spikeclip.errors import unknown

LEVELS = ("L0", "L1", "L2 tiled", "L2 no reuse")


@dataclass(frozen=True)
class Network:
    """How the counted network is run."""

    name: str
    spiking: bool
    weights: ArithmeticName = "fp32"
    activation_bits: int | None = None
    """Of an ordinary network: bits of an activation, those of the weights by default."""

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels it is compared at: the literature's counts in fp32."""
        return LEVELS if self.weights == "fp32" else LEVELS[1:]


@dataclass(frozen=True)
class Row:
    op: str
    kind: str
    """mac, accumulate, integer accumulate, neuron, gain, add, pool, readout, embedding, memory or addressing."""
    what: str
    count: float
    """How often, for one input and all its time steps."""
    rate: float | None
    """Mean spikes per input and time step, where they drive the count."""
    pJ: float
    """Energy of one."""

    @property
    def joules(self) -> float:
        return self.count * self.pJ * 1e-12


def ledger(
    counted: Sequence[Count],
    spikes: Mapping[str, float],
    network: Network,
    level: str,
    conventions: Conventions,
) -> list[Row]:
    """Return the rows of one input at a level.

    counted: from `counts`. spikes: for every neuron, the spikes of one input summed over its time steps, an integer
    activation n counting n (an ordinary network reads none). Raises `InputError` for an unknown level.
    """
    if level not in LEVELS:
        raise unknown("level", level, LEVELS)
    steps = max((count.steps for count in counted), default=1) if network.spiking else 1
    elements = {count.op: count for count in counted if isinstance(count, Elements)}
    rows: list[Row] = []
    for count in counted:
        if isinstance(count, Product):
            theta = spikes[count.source] if network.spiking and count.source else None
            repeats = count.steps if network.spiking else 1
            if network.spiking and count.stem and conventions.first_layer == "every_step":
                repeats = steps
            if level == "L0":
                rows += _literature(count, theta, repeats, network, conventions)
                continue
            integer = count.source is not None and elements[count.source].levels > 1
            rows += _product(count, theta, repeats, integer, network, conventions)
            if level == "L2 no reuse" and count.source and theta is not None and count.steps == 1:
                level_bits = _level_bits(elements[count.source])
                rows += _by_outputs(count, theta, level_bits, network, conventions)
            elif level != "L1":
                rows += _product_memory(count, theta, repeats, network, conventions, level == "L2 tiled")
        elif level != "L0":
            rows += _elements(count, network, conventions)
            if level != "L1":
                fired = spikes.get(count.op, 0.0)
                rows += _elements_memory(count, fired, network, conventions, level == "L2 tiled")
    return rows


def joules(rows: Sequence[Row]) -> float:
    """Return the sum of a ledger, joules per input."""
    return sum(row.joules for row in rows)


def _literature(
    count: Product, theta: float | None, repeats: int, network: Network, conventions: Conventions
) -> list[Row]:
    """L0; a layer of real values that is not the first, the readout, does not count."""
    if network.spiking and theta is not None:
        rate = theta / (count.inputs * count.steps)
        pJ = conventions.arithmetic.fp32.accumulate
        what = "synaptic operations"
        return [Row(count.op, "accumulate", what, rate * count.macs * count.steps, rate, pJ)]
    if count.source is None and not count.stem:
        return []
    pJ = conventions.arithmetic.fp32.mac if network.spiking else _mac(network, conventions)
    return [Row(count.op, "mac", "multiply-accumulates", count.macs * repeats, None, pJ)]


def _product(
    count: Product,
    theta: float | None,
    repeats: int,
    integer: bool,
    network: Network,
    conventions: Conventions,
) -> list[Row]:
    arithmetic = conventions.arithmetic[network.weights]
    if theta is not None:
        rate = theta / (count.inputs * count.steps)
        kind = "integer accumulate" if integer else "accumulate"
        rows = [
            Row(count.op, kind, "synaptic operations", theta * count.fan_out, rate, arithmetic.accumulate)
        ]
    else:
        pJ = (
            conventions.arithmetic[conventions.real_arithmetic].mac
            if network.spiking
            else _mac(network, conventions)
        )
        rows = [Row(count.op, "mac", "multiply-accumulates", count.macs * repeats, None, pJ)]
    if count.bias:
        rows.append(Row(count.op, "add", "bias", count.outputs * repeats, None, arithmetic.accumulate))
    return rows


def _mac(network: Network, conventions: Conventions) -> float:
    """pJ of an ordinary network's multiply-accumulate; the multiplier shrinks with the bits of the activation."""
    arithmetic = conventions.arithmetic[network.weights]
    return arithmetic.multiply * _activation_bits(network, conventions) / arithmetic.bits + arithmetic.add


def _activation_bits(network: Network, conventions: Conventions) -> int:
    return network.activation_bits or conventions.arithmetic[network.weights].bits


def _elements(count: Elements, network: Network, conventions: Conventions) -> list[Row]:
    update = conventions.arithmetic[conventions.update_arithmetic]
    repeats = count.steps if network.spiking else 1
    if count.kind == "neuron":
        kind = count.neuron if network.spiking else "relu" if network.weights == "fp32" else "requantise"
        pJ = conventions.updates[kind].energy(update, count.levels if network.spiking else 1)
        neurons = count.outputs * (count.populations if network.spiking else 1)
        return [Row(count.op, "neuron", "updates", neurons * repeats, None, pJ)]
    if count.kind == "gain" and not network.spiking:
        return []  # an ordinary network has no ranges; those of a quantised one are in its requantisation
    parts = (("multiplications", count.multiplies, update.multiply), ("additions", count.adds, update.add))
    return [Row(count.op, count.kind, what, n * repeats, None, pJ) for what, n, pJ in parts if n]


def _product_memory(
    count: Product,
    theta: float | None,
    repeats: int,
    network: Network,
    conventions: Conventions,
    tiled: bool,
) -> list[Row]:
    """Level 2. Spiking: Lemaire et al.'s counts for theta input spikes. Ordinary: a weight and an input for each
    multiply-accumulate, sums in a register, every output written once."""
    real = network.spiking and theta is None
    weights = conventions.arithmetic[conventions.real_arithmetic if real else network.weights]
    address = conventions.arithmetic[conventions.address_arithmetic]

    def memory(what: str, n: float, words: int, bits: float, dram: bool = False) -> Row:
        return Row(count.op, "memory", what, n, None, conventions.access(words * bits, bits, dram))

    def addressing(what: str, n: float, pJ: float) -> Row:
        return Row(count.op, "addressing", what, n, None, pJ)

    dram = conventions.weights_in == "dram"
    if theta is None:
        bits = weights.bits if real else _activation_bits(network, conventions)
        fetched = count.macs * repeats
        return [
            memory("weight reads", count.weights if tiled else fetched, count.weights, weights.bits, dram),
            memory("input reads", count.inputs if tiled else fetched, count.inputs, bits),
            memory("output writes", count.outputs * repeats, count.outputs, bits),
            addressing("counters", (count.inputs + count.outputs) * repeats, address.add),
        ]
    events, states = theta * count.taps, count.outputs * count.steps if count.stored else 0
    potentials = states if tiled else events + states
    event_bits = _bits(count.inputs * count.populations)
    return [
        memory("weight reads", count.weights if tiled else events, count.weights, weights.bits, dram),
        memory("potential reads", potentials, count.outputs, conventions.state_bits),
        memory("potential writes", potentials, count.outputs, conventions.state_bits),
        memory("event reads", theta, count.inputs, event_bits),
        addressing("event coordinates", 2 * theta, address.mac),
        addressing("event targets", events, address.add),
    ]


def _by_outputs(
    count: Product, theta: float, level_bits: int, network: Network, conventions: Conventions
) -> list[Row]:
    """Level 2 without reuse, of one time step: an ordinary layer's counts with the weights of zeros left out."""
    weight_bits = conventions.arithmetic[network.weights].bits
    address = conventions.arithmetic[conventions.address_arithmetic]
    state_bits, dram = conventions.state_bits, conventions.weights_in == "dram"
    of_weight = conventions.access(count.weights * weight_bits, weight_bits, dram)
    of_input = conventions.access(count.inputs * level_bits, level_bits)
    of_sum = conventions.access(count.outputs * state_bits, state_bits)
    return [
        Row(count.op, "memory", "weight reads", theta * count.fan_out, None, of_weight),
        Row(count.op, "memory", "input reads", count.macs, None, of_input),
        Row(count.op, "memory", "sum writes", count.outputs if count.stored else 0, None, of_sum),
        Row(count.op, "addressing", "tests for zero", count.macs, None, address.add),
        Row(count.op, "addressing", "counters", count.inputs + count.outputs, None, address.add),
    ]


def _level_bits(count: Elements) -> int:
    """Bits of a neuron's activation as a number: 0 to D, of a signed one -D to D."""
    return _bits(count.levels * count.populations + 1)


def _bits(values: int) -> int:
    """Bits that tell so many values apart."""
    return max(1, math.ceil(math.log2(values)))


def _elements_memory(
    count: Elements, fired: float, network: Network, conventions: Conventions, tiled: bool
) -> list[Row]:
    """Level 2. A neuron writes its spikes, and resets once for each where it has a membrane: or, of one time step and
    without reuse, all activations as numbers. Other operations read and write memory, unless tiled: then they are done
    while their operands are at hand."""
    update = conventions.arithmetic[conventions.update_arithmetic]
    if count.kind == "neuron":
        if not network.spiking:
            return []  # an activation is what the layer before has written
        if count.steps == 1 and not tiled:
            bits = _level_bits(count)
            pJ = conventions.access(count.outputs * bits, bits)
            return [Row(count.op, "memory", "activation writes", count.outputs, None, pJ)]
        event_bits = _bits(count.outputs * count.populations)
        pJ = conventions.access(count.outputs * event_bits, event_bits)
        rows = [Row(count.op, "memory", "event writes", fired, None, pJ)]
        if count.steps > 1:
            rows.append(Row(count.op, "neuron", "resets", fired, None, update.add))
        return rows
    if (tiled and count.kind != "embedding") or (count.kind == "gain" and not network.spiking):
        return []
    bits = update.bits if network.spiking else _activation_bits(network, conventions)
    repeats = count.steps if network.spiking else 1
    read, write = (conventions.access(size * bits, bits) for size in (count.stored, count.outputs))
    return [
        Row(count.op, "memory", "element reads", count.reads * repeats, None, read),
        Row(count.op, "memory", "element writes", count.outputs * repeats, None, write),
    ]
