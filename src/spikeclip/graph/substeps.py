"""Integer and signed spikes as binary ones: sub-steps of 0 or 1, and channels for ON and OFF neurons."""

from __future__ import annotations

import dataclasses

import numpy as np

from spikeclip.errors import InputError
from spikeclip.graph.check import check_steps
from spikeclip.graph.ops import (
    Attention,
    Conv,
    Depthwise,
    Graph,
    InputOp,
    Linear,
    Max,
    Neuron,
    OnOff,
    Op,
    Scale,
)


def to_substeps(graph: Graph[InputOp]) -> Graph[InputOp]:
    """Return the graph in which every I-LIF neuron fires n[t] times in D binary sub-steps of step t.

    W n = sum over sub-steps d of W b_d (Luo et al., SpikeYOLO, ECCV 2024), so every synapse reads spikes of 0 or
    1 and its currents add up to the same; signed neurons become those of `split_signed`. A graph without I-LIF and
    signed neurons is returned as it is. Raises `InputError` where an operation reads values of different D, as
    attention of q, k and v.
    """
    graph = split_signed(graph)
    substeps: dict[str, int] = {}  # of the output of each operation
    ops = []
    for op in graph.ops:
        incoming = max((substeps[name] for name in op.inputs), default=1)
        if isinstance(op, Neuron):
            substeps[op.name] = op.D if op.kind == "ilif" else 1
            ops.append(dataclasses.replace(op, substeps=substeps[op.name]))
        elif isinstance(op, (Linear, Conv, Depthwise, Attention, Scale, Max)):
            substeps[op.name] = 1
            ops.append(dataclasses.replace(op, substeps=incoming))
        else:  # passes its steps on
            substeps[op.name] = incoming
            ops.append(op)
    check_steps(ops)
    return Graph(ops)


def split_signed(graph: Graph[InputOp]) -> Graph[InputOp]:
    """Return the graph in which signed neurons are twice as many channels, ON and then OFF, read with W and -W.

    W (n_on - n_off) = W n_on + (-W) n_off. Raises `InputError` where something else than a convolution of all channels
    or a linear map reads signed spikes.
    """
    ops: list[Op] = []
    split: set[str] = set()
    for op in graph.ops:
        if isinstance(op, Neuron) and op.signed:
            split.add(op.name)
            currents = OnOff(f"{op.name}.on_off", op.inputs)
            ops += [currents, dataclasses.replace(op, inputs=(currents.name,), signed=False)]
        elif split.isdisjoint(op.inputs):
            ops.append(op)
        elif isinstance(op, Linear):
            ops.append(dataclasses.replace(op, weight_IO=_both(op.weight_IO, 0)))
        elif isinstance(op, Conv):
            ops.append(dataclasses.replace(op, weight_RSIO=_both(op.weight_RSIO, 2)))
        else:
            raise InputError(
                f"{op.name}: a {type(op).__name__} cannot read the signed spikes of {op.inputs[0]}"
            )
    return Graph(ops)


def _both(weight: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate([weight, -weight], axis)
