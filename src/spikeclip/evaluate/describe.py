"""What a model is made of: sizes, parameters and the shape of every layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeclip.config import ModelConfig, read_config
from spikeclip.graph.ops import Op
from spikeclip.graph.saved import SavedGraphs, load_graphs
from spikeclip.graph.shapes import Shape, shapes

if TYPE_CHECKING:
    from torch import nn

    from spikeclip.model import SpikeCLIP


def describe_model(model: SpikeCLIP) -> dict[str, Any]:
    """Return name, neuron, sizes, and parameters by tower, as plain values in the order of interest."""
    parameters = {
        "image": _count(model.image),
        "text": _count(model.text),
        "temperature": sum(p.numel() for name, p in model.named_parameters() if "." not in name),
    }
    return {
        **_facts(model.config, model.tokenizer is not None, model.logit_scale.item()),
        "parameters": {**parameters, "total": sum(parameters.values())},
    }


def describe_graphs(folder: Path) -> tuple[dict[str, Any], SavedGraphs]:
    """Return what `describe_model` does of a saved model with graphs, and these; without PyTorch.

    In place of `parameters` there are the numbers `stored` by the towers, BatchNorm folded in. Raises `InputError`
    where there are no graphs or no config.json.
    """
    graphs = load_graphs(folder)
    stored = {"image": sum(map(_stored, graphs.image.ops)), "text": sum(map(_stored, graphs.text.ops))}
    facts = _facts(read_config(folder), (folder / "tokenizer.json").is_file(), graphs.logit_scale)
    return {**facts, "stored": {**stored, "total": sum(stored.values())}}, graphs


def describe_layers(graphs: SavedGraphs) -> list[dict[str, Any]]:
    """Return the operations of both towers in the order in which they run.

    Each has `name`, `kind`, `output` and `parameters`. `output` is its shape for one picture or one text of full
    length: time first, where T = 1 stands for a value that does not change, then the batch of one, and the channels
    before rows and columns. `parameters` are the numbers that the operation stores. BatchNorm is folded into the
    weights and the bias of the operation before it, so their sum is not the model's number of parameters.
    """
    layers = []
    for tower, graph in (("image", graphs.image), ("text", graphs.text)):
        outputs = shapes(graph)
        for op in graph.ops:
            layers.append(
                {
                    "name": f"{tower}.{op.name}",
                    "kind": type(op).__name__,
                    "output": _channels_first(outputs[op.name]),
                    "parameters": _stored(op),
                }
            )
    return layers


def _facts(config: ModelConfig, tokenizer: bool, logit_scale: float) -> dict[str, Any]:
    return {
        "name": config.name,
        "neuron": config.neuron.kind,
        "T": config.neuron.T,
        "D": config.neuron.D if config.neuron.kind in ("ilif", "quant_relu") else None,
        "image_size": config.image.image_size,
        "event_frames": config.image.event_frames,
        "image_architecture": config.image.architecture,
        "text_architecture": config.text.architecture,
        "embed_dim": config.embed_dim,
        "vocab_size": config.text.vocab_size,
        "context_length": config.text.context_length,
        "tokenizer": tokenizer,
        "logit_scale": logit_scale,
    }


def _stored(op: Op) -> int:
    return sum(value.size for value in vars(op).values() if isinstance(value, np.ndarray))


def _channels_first(shape: Shape) -> Shape:
    """Return (T, ..., C) as the towers have it: (T, 1, C, H, W), (T, 1, N, C) or (T, 1, C)."""
    T, *inner = shape
    return T, 1, *([inner[2], *inner[:2]] if len(inner) == 3 else inner)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
