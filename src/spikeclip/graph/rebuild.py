"""From the graphs of a model back to its PyTorch towers: `lower` read backwards."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from spikeclip import neurons
from spikeclip.config import read_saved
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.ops import Graph, Op
from spikeclip.graph.saved import load_graphs
from spikeclip.model import SpikeCLIP, from_pretrained
from spikeclip.pretrained.resolve import has_graphs
from spikeclip.towers.norm import BatchNorm, LinearBN
from spikeclip.towers.separable import SeparableConv, SeparableTower
from spikeclip.towers.text import TextTransformer


def load_network(folder: Path) -> SpikeCLIP:
    """Return the network in PyTorch, in eval mode, of a model's folder: from its weights, or from its graphs alone.

    Raises `InputError` for a model that cannot be read.
    """
    if (folder / "model.safetensors").is_file() or not has_graphs(folder):
        return from_pretrained(folder)
    graphs, saved = load_graphs(folder), read_saved(folder)
    made = SpikeCLIP(saved.config, Tokenizer.load(folder), saved.taught).eval()
    rebuild(made.image, graphs.image)
    rebuild(made.text, graphs.text)
    made.log_scale.data.fill_(math.log(graphs.logit_scale))
    return made


@torch.no_grad()
def rebuild(tower: nn.Module, graph: Graph) -> None:
    """Give a tower the weights of its graph: what was folded together stays folded, and BatchNorm changes nothing.

    tower: as the model's configuration builds it. Raises `InputError` for another kind of tower than a separable one or
    a text transformer of one time step, and where the graph is that of another tower.
    """
    if not isinstance(tower, (SeparableTower, TextTransformer)) or tower.T != 1:
        raise InputError(
            "only a separable image tower and a text transformer of one time step can be made from graphs; this model "
            "needs its model.safetensors"
        )
    unit: dict[str, float] = {}
    _neutral(tower)
    for op in graph.ops:
        unit[op.name] = _unit(op, unit)
        try:
            _fill(tower, op, unit[op.inputs[0]] if op.inputs else 1.0)
        except (AttributeError, RuntimeError) as error:  # no such module, or one of another shape
            raise InputError(f"the graph is not that of the configuration: {op.name} does not fit") from error


def _neutral(tower: nn.Module) -> None:
    for module in tower.modules():
        if isinstance(module, BatchNorm):
            module.become_identity()
        elif isinstance(module, LinearBN) and module.linear.bias is not None:
            module.linear.bias.zero_()
        elif isinstance(module, neurons.Neuron) and module.range_C is not None:
            module.range_C.fill_(1)


def _unit(op: Op, unit: dict[str, float]) -> float:
    """Return what 1 in an operation's output stands for, as `lower` keeps it."""
    if isinstance(op, ops.Neuron):
        return 1 / op.D if op.kind == "ilif" else 1.0
    if isinstance(op, (ops.Conv, ops.Depthwise, ops.Linear, ops.Attention, ops.Scale)) or not op.inputs:
        return 1.0
    return unit[op.inputs[0]]


def _fill(tower: nn.Module, op: Op, unit: float) -> None:
    """unit: of what the operation reads."""
    if isinstance(op, (ops.Conv, ops.Depthwise)):
        module = tower.get_submodule(op.name)
        assert isinstance(module, SeparableConv)
        depthwise = isinstance(op, ops.Depthwise)
        weight_RSIO = op.weight_RSC[:, :, None] if depthwise else op.weight_RSIO
        _set(module.conv.weight, weight_RSIO.transpose(3, 2, 0, 1), 1 / unit)
        _set(module.bn.bias, op.bias_C if depthwise else op.bias_O)
    elif isinstance(op, ops.Linear):
        module = tower.get_submodule(op.name)
        linear = module.linear if isinstance(module, LinearBN) else module
        assert isinstance(linear, nn.Linear)
        _set(linear.weight, op.weight_IO.T, 1 / unit)
        _set(module.bn.bias if isinstance(module, LinearBN) else linear.bias, op.bias_O)
    elif isinstance(op, ops.Gain):
        neuron = tower.get_submodule(op.name.rpartition(".")[0])
        assert isinstance(neuron, neurons.Neuron)
        assert neuron.range_C is not None
        _set(neuron.range_C, 1 / op.factor_C)
    elif isinstance(op, ops.Embedding):
        assert isinstance(tower, TextTransformer)
        _set(tower.token.weight, op.table_VC)
        _set(tower.position.weight, op.positions_LC)


def _set(target: Tensor | None, value: np.ndarray, factor: float = 1.0) -> None:
    assert target is not None
    if target.shape != value.shape:  # else PyTorch would repeat it
        raise AttributeError(f"{tuple(value.shape)} for {tuple(target.shape)}")
    target.copy_(torch.from_numpy(np.ascontiguousarray(value, np.float64) * factor))
