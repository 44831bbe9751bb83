"""What one picture costs a network, in a few lines for its model card."""

from __future__ import annotations

import numpy as np

from spikeclip.data.images import Images
from spikeclip.energy.compare import SPIKING, baselines, tower_energy
from spikeclip.energy.conventions import load_conventions
from spikeclip.energy.counts import Product, counts
from spikeclip.energy.firing import measure_firing, spiking_run
from spikeclip.energy.ledger import LEVELS, joules, ledger
from spikeclip.energy.words import MEANING, amount
from spikeclip.graph.inputs import picture_batches
from spikeclip.graph.ops import Graph, Image, Neuron

PICTURES = 64
"""Most pictures that spikes are counted on: a card says how much it is, `spikeclip energy` gives the whole account."""


def picture_costs(graph: Graph[Image], images_NHWC: np.ndarray | Images, name: str) -> dict[str, str]:
    """Return what a picture costs an image tower, counted: operations, spikes and energy, each by what it is in words.

    images_NHWC: uint8, of which the first `PICTURES` run; name: what they are called. An ordinary network (ReLU) has no
    spikes, and nothing runs. The texts of the classes, which are embedded once for all pictures, do not count.
    """
    conventions = load_conventions()
    counted = counts(graph)
    macs = sum(count.macs for count in counted if isinstance(count, Product))
    costs = {"multiply-accumulates of a dense run, one time step": _millions(macs)}
    if any(isinstance(op, Neuron) and op.kind == "relu" for op in graph.ops):
        networks = baselines(graph)[:2]  # the third is of spiking levels
        energy = {
            network.name.removeprefix("ANN twin, "): {
                level: joules(ledger(counted, {}, network, level, conventions)) for level in network.levels
            }
            for network in networks
        }
    else:
        images_NHWC = images_NHWC[:PICTURES]
        # Dense: a training that goes on in this process keeps its threads to itself.
        _, groups = measure_firing(spiking_run(graph, dense=True), picture_batches(graph, images_NHWC))
        found = tower_energy(graph, groups, conventions)
        energy = found["joules"]
        rows = found["ledger"][SPIKING[0].name]["L0"]
        operations = sum(row["count"] for row in rows if row["what"] == "synaptic operations")
        costs |= {
            "spike-driven synaptic operations": _millions(operations),
            "spikes per neuron and time step": f"{found['rate']:.2f}, on {len(images_NHWC)} pictures of {name}",
        }
    for level in LEVELS:
        parts = [f"{network} {amount(of[level])}" for network, of in energy.items() if level in of]
        costs[f"energy at {level}, {MEANING[level]}"] = "; ".join(parts)
    fp32 = conventions.arithmetic.fp32
    price = f"multiply-accumulate {fp32.mac:g} pJ and accumulate {fp32.accumulate:g} pJ in fp32"
    return {**costs, "constants": f"conventions {conventions.name}, such as {price}"}


def _millions(count: float) -> str:
    return f"{count / 1e6:.3g} M"
