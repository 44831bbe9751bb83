"""I-LIF as binary spikes: every step of D levels becomes D sub-steps of 0 or 1 with the same sum."""

from __future__ import annotations

import dataclasses

from spikeclip.graph.check import check_steps
from spikeclip.graph.ops import Attention, Conv, Graph, InputOp, Linear, Max, Neuron, Scale


def to_substeps(graph: Graph[InputOp]) -> Graph[InputOp]:
    """Return the graph in which every I-LIF neuron fires n[t] times in D binary sub-steps of step t.

    W n = sum over sub-steps d of W b_d (Luo et al., SpikeYOLO, ECCV 2024), so every synapse reads spikes of 0 or
    1 and its currents add up to the same; a graph without I-LIF is returned as it is. Raises `InputError` where an
    operation reads values of different D, as attention of q, k and v.
    """
    substeps: dict[str, int] = {}  # of the output of each operation
    ops = []
    for op in graph.ops:
        incoming = max((substeps[name] for name in op.inputs), default=1)
        if isinstance(op, Neuron):
            substeps[op.name] = op.D if op.kind == "ilif" else 1
            ops.append(dataclasses.replace(op, substeps=substeps[op.name]))
        elif isinstance(op, (Linear, Conv, Attention, Scale, Max)):
            substeps[op.name] = 1
            ops.append(dataclasses.replace(op, substeps=incoming))
        else:  # passes its steps on
            substeps[op.name] = incoming
            ops.append(op)
    check_steps(ops)
    return Graph(ops)
