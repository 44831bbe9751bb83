"""Whether a stage computes its activations anew in backward, because keeping them would take too much memory."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from spikeclip.towers.recompute import keep_activations
from spikeclip.train.feed import Feed
from spikeclip.train.network import StageNetwork
from spikeclip.train.stages.stage import Batch

KEPT_SHARE = 0.6
"""Of a GPU's free memory, up to which auto keeps activations; their gradients and the optimiser need some too."""
_FEW = 4
"""Samples of the smaller of two batches by which it is estimated what a whole one keeps."""


def recomputes(setting: Literal["auto"] | bool, network: StageNetwork, feed: Feed) -> bool:
    """Return whether activations are computed again; "auto": on a CPU, and on a GPU where they take too much memory."""
    if setting != "auto" or feed.device.type != "cuda":
        return bool(setting)
    inputs, _ = feed.batch(*feed.steps.at(0))
    return kept_bytes(network, inputs) > KEPT_SHARE * torch.cuda.mem_get_info(feed.device)[0]


def kept_bytes(network: StageNetwork, inputs: Batch) -> int:
    """Estimate the bytes that the forward pass of a batch keeps for backward where nothing is computed again.

    Two small parts of the batch are run and the line through both is followed. Statistics stay as they are.
    """
    size = len(next(iter(inputs.values())))
    if size <= 2 * _FEW:
        return _kept(network, inputs)
    few, more = (_kept(network, {k: x[:n] for k, x in inputs.items()}) for n in (_FEW, 2 * _FEW))
    return few + (more - few) * (size - _FEW) // _FEW


def _kept(network: StageNetwork, inputs: Batch) -> int:
    model, device = network.model, next(network.parameters()).device.type
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, Tensor] = {}

    def hold(x: Tensor) -> Tensor:
        if (place := x.untyped_storage().data_ptr()) not in weights:
            held[place] = x  # so that no memory is used twice
        return x

    training = model.training
    model.train()
    with (
        torch.compiler.set_stance("force_eager"),
        torch.autocast(device, network.precision, enabled=network.precision != torch.float32),
        torch.autograd.graph.saved_tensors_hooks(hold, lambda x: x),
        keep_activations(),
    ):
        features = network.stage.features(model, inputs)
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(statistics[name])
    model.train(training)
    del features
    return sum(x.untyped_storage().nbytes() for x in held.values())
