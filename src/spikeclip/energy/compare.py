"""Level 3: the same network as spiking and as ordinary ones, at every level, and the rate at which they break even."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spikeclip.energy.conventions import Conventions
from spikeclip.energy.counts import Count, Product, counts
from spikeclip.energy.firing import Z95, Firing, Group, all_firing
from spikeclip.energy.ledger import Network, Row, joules, ledger
from spikeclip.graph import ops
from spikeclip.graph.ops import Graph

SPIKING = (Network("spiking, fp32 weights", True, "fp32"), Network("spiking, int8 weights", True, "int8"))


def baselines(graph: Graph) -> tuple[Network, ...]:
    """Return the ordinary twins: fp32, int8, and int8 weights with activations of ceil(log2(T D + 1)) bits.

    T D + 1 is the number of values that a neuron can express in T steps of D levels (Yan et al., arXiv 2409.08290).
    """
    neurons = [op for op in graph.ops if isinstance(op, ops.Neuron)]
    levels = max((op.T * (op.D if op.kind == "ilif" else 1) for op in neurons), default=1)
    bits = math.ceil(math.log2(levels + 1))
    return (
        Network("ANN twin, fp32", False, "fp32"),
        Network("ANN twin, int8", False, "int8"),
        Network(f"ANN twin, {bits}-bit activations", False, "int8", bits),
    )


def tower_energy(
    graph: Graph, groups: Sequence[Group], conventions: Conventions, twins: Sequence[Network] | None = None
) -> dict[str, Any]:
    """Return what one input of a tower costs, averaged over the groups, as plain values.

    `joules`: network -> level -> J. `intervals`: of the spiking networks, half of the 95 % confidence interval over
    inputs, NaN for one. `kinds` and `layers`: the joules, split. `break_even`: spiking network -> level -> twin -> mean
    spikes per neuron and step at which they cost the same, every layer's rate scaled alike; None where the spiking
    network costs more even in silence. `rate`: mean spikes per neuron and step; `highest_rate`: that of neurons which
    always fire. `macs`: of a dense run. `ledger`: the rows of the spiking networks, level by level. twins: by default
    those of the graph's own neurons.
    """
    counted = [(counts(graph, g.shape, conventions.attention_order), g) for g in groups]
    twins = baselines(graph) if twins is None else twins
    rows = {
        network.name: {level: _mean_rows(counted, network, level, conventions) for level in network.levels}
        for network in (*SPIKING, *twins)
    }
    total = {name: {level: joules(r) for level, r in levels.items()} for name, levels in rows.items()}
    rate = mean_rate(all_firing(list(groups)))
    even: dict[str, dict[str, dict[str, float | None]]] = {}
    for network in SPIKING:
        even[network.name] = {}
        for level in network.levels:
            silent = joules(_mean_rows(counted, network, level, conventions, scale=0.0))
            firing = total[network.name][level]
            even[network.name][level] = {
                twin.name: _break_even(rate, silent, firing, total[twin.name][level])
                for twin in twins
                if level in twin.levels
            }
    weight = sum(g.inputs for _, g in counted)
    macs = sum(count.macs * g.inputs for found, g in counted for count in found if isinstance(count, Product))
    return {
        "inputs": weight,
        "macs": macs / weight,
        "rate": rate,
        "highest_rate": max(
            ((op.D if op.kind == "ilif" else 1) for op in graph.ops if isinstance(op, ops.Neuron)), default=0
        ),
        "joules": total,
        "intervals": {
            network.name: {level: _interval(counted, network, level, conventions) for level in network.levels}
            for network in SPIKING
        },
        "kinds": {
            n: {level: _split(r, lambda row: row.kind) for level, r in by.items()} for n, by in rows.items()
        },
        "layers": {
            n: {level: _split(r, lambda row: row.op) for level, r in by.items()} for n, by in rows.items()
        },
        "break_even": even,
        "ledger": {
            network.name: {
                level: [{**dataclasses.asdict(row), "joules": row.joules} for row in r]
                for level, r in rows[network.name].items()
            }
            for network in SPIKING
        },
    }


def mean_rate(firing: dict[str, Firing]) -> float:
    """Return the mean spikes per neuron and time step, 0 without neurons: a layer counts as often as it has neurons."""
    spikes = sum(float(f.spikes_T.sum()) for f in firing.values())
    return spikes / max(1, sum(f.neurons * len(f.spikes_T) for f in firing.values()))


def total_energy(
    image: dict[str, Any], text: dict[str, Any], conventions: Conventions, pictures: int
) -> dict[str, Any]:
    """Return what one picture costs with its share of the text tower: `share` texts, and `joules` as in `tower_energy`.

    pictures: how many share the texts (where the convention amortises them). `intervals`: those of the image tower,
    since every picture is compared with the same texts. With `joules` of the teacher, where the conventions have one,
    at the levels that need its multiply-accumulates only; L2 would need its layers.
    """
    share = {"amortised": text["inputs"] / pictures, "per_query": 1.0, "none": 0.0}[conventions.text]
    total = {
        name: {level: value + share * text["joules"][name][level] for level, value in levels.items()}
        for name, levels in image["joules"].items()
    }
    teacher = conventions.teacher
    if teacher is not None:
        pJ = (teacher.image_macs + share * teacher.text_macs) * conventions.arithmetic[teacher.arithmetic].mac
        total[f"teacher, {teacher.name}"] = {"L0": pJ * 1e-12, "L1": pJ * 1e-12}
    return {"share": share, "joules": total, "intervals": image["intervals"]}


def _mean_rows(
    counted: Sequence[tuple[Sequence[Count], Group]],
    network: Network,
    level: str,
    conventions: Conventions,
    scale: float = 1.0,
) -> list[Row]:
    """The ledger of the mean input, with the spikes of all layers times `scale`."""
    weight = sum(group.inputs for _, group in counted)
    ledgers = [
        (
            ledger(found, {n: s * scale for n, s in g.spikes.items()}, network, level, conventions),
            g.inputs / weight,
        )
        for found, g in counted
    ]
    if len(ledgers) == 1:
        return ledgers[0][0]
    means = []
    for parts in zip(*(rows for rows, _ in ledgers), strict=True):
        pairs = list(zip(parts, (share for _, share in ledgers), strict=True))
        count = sum(row.count * share for row, share in pairs)
        energy = sum(row.count * row.pJ * share for row, share in pairs)
        pJ = energy / count if count else parts[0].pJ
        known = [(row.rate, share) for row, share in pairs if row.rate is not None]
        mean = sum(r * share for r, share in known) if known else None
        means.append(dataclasses.replace(parts[0], count=count, pJ=pJ, rate=mean))
    return means


def _interval(
    counted: Sequence[tuple[Sequence[Count], Group]], network: Network, level: str, conventions: Conventions
) -> float:
    """An input's energy is a constant plus so much for each spike of a layer, so its variance is known from the
    spikes' covariance between layers; inputs of another shape have another constant."""
    inputs = sum(group.inputs for _, group in counted)
    if inputs < 2:
        return math.nan
    within, means = 0.0, []
    for found, group in counted:
        silence = dict.fromkeys(group.firing, 0.0)

        def cost(spikes: dict[str, float], found: Sequence[Count] = found) -> float:
            return joules(ledger(found, spikes, network, level, conventions))

        slope_L = np.array([cost({**silence, name: 1.0}) for name in silence]) - cost(silence)
        within += float(slope_L @ group.scatter_LL @ slope_L)
        means.append((cost(group.spikes), group.inputs))
    mean = sum(cost * n for cost, n in means) / inputs
    variance = (max(within, 0.0) + sum(n * (cost - mean) ** 2 for cost, n in means)) / (inputs - 1)
    return Z95 * math.sqrt(variance / inputs)


def _break_even(rate: float, silent: float, firing: float, other: float) -> float | None:
    """Every level's energy is a constant plus a multiple of the rate."""
    if other < silent or firing <= silent:
        return None
    return rate * (other - silent) / (firing - silent)


def _split(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, float]:
    parts: dict[str, float] = {}
    for row in rows:
        parts[key(row)] = parts.get(key(row), 0.0) + row.joules
    return parts
