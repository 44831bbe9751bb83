"""What a model is made of: sizes, parameters and the shape of every layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikeclip.data.transforms import normalize
from spikeclip.model import SpikeCLIP


def describe_model(model: SpikeCLIP) -> dict[str, Any]:
    """Return name, neuron, sizes, and parameters by tower, as plain values in the order of interest."""
    config = model.config
    parameters = {
        "image": _count(model.image),
        "text": _count(model.text),
        "temperature": sum(p.numel() for name, p in model.named_parameters() if "." not in name),
    }
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
        "tokenizer": model.tokenizer is not None,
        "logit_scale": model.logit_scale.item(),
        "parameters": {**parameters, "total": sum(parameters.values())},
    }


@torch.no_grad()
def describe_layers(model: SpikeCLIP) -> list[dict[str, Any]]:
    """Return the layers in the order in which they run on one picture and one text of full length.

    Each has `name`, `kind`, `output` (shape; time first, then the batch of one, where the layer has them) and
    `parameters`.
    """
    layers: dict[str, dict[str, Any]] = {}

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                layers[name] = {
                    "name": name,
                    "kind": type(module).__name__,
                    "output": tuple(output.shape),
                    "parameters": _count(module),
                }

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    image, text = model.config.image, model.config.text
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        device = model.log_scale.device
        zeros = torch.zeros(1, *image.shape, dtype=torch.uint8, device=device)
        model.encode_image(normalize(zeros, *image.normalization))
        # Any token that is not the end: a text of full length.
        token = 0 if text.eos_id else 1
        model.encode_text(torch.full((1, text.context_length), token, device=device))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return list(layers.values())


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
