"""A stage as one module: features of this process's share, loss on the batch of all processes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function

from spikeclip.config import TWINS
from spikeclip.energy.counts import Product, counts
from spikeclip.graph.lower import lower
from spikeclip.losses import rate_loss
from spikeclip.model import SpikeCLIP
from spikeclip.neurons import Neuron, record
from spikeclip.train.stages.stage import Batch, Stage


class StageNetwork(nn.Module):
    """A model and the stage that trains it, as one module for Accelerate to wrap.

    Every process embeds its share of the batch and computes the loss of the whole batch from gathered features and
    targets, so contrastive losses see all pairs and N processes give the loss of one.
    """

    def __init__(self, model: nn.Module, stage: Stage, precision: torch.dtype) -> None:
        super().__init__()
        self.model, self.stage, self.precision = model, stage, precision
        self.rate = rate_weight(model, stage)
        self.accumulates = driven_accumulates(model) if self.rate else {}  # type: ignore[arg-type]

    def forward(self, inputs: Batch, targets: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss of the whole batch; their sum is what is minimised.

        inputs, targets: of this process's share of the batch.
        """
        device = next(self.model.parameters()).device.type
        watch = record(self.model) if self.rate else nullcontext({})
        with torch.autocast(device, self.precision, enabled=self.precision != torch.float32), watch as rates:
            features = self.stage.features(self.model, inputs)
        features = {name: gather(value) for name, value in features.items()}
        targets = {name: gather(value) for name, value in targets.items()}
        terms = self.stage.loss(self.model, features, targets)
        if self.rate:
            shared = {name: gather(rate[None]).mean() for name, rate in rates.items()}
            target = self.stage.config.loss.target_rate
            terms["rate"] = self.rate * rate_loss(shared, self.accumulates, target)
        return terms


def rate_weight(model: nn.Module, stage: Stage) -> float:
    """Return the weight of the firing-rate regulariser: of the twins, which do not spike, 0."""
    rate = stage.config.loss.rate
    return 0.0 if rate and model.config.neuron.kind in TWINS else rate  # type: ignore[union-attr]


def driven_accumulates(model: SpikeCLIP) -> dict[str, int]:
    """Return how many multiply-accumulates each layer of neurons drives in a dense run, by its name in `model`.

    Of one picture and of a text as long as the context. A layer whose spikes add nothing has none: in attention a
    spike of k adds a row of v, one of q a row of their product, and v itself is read as a weight is.
    """
    towers = {"image": lower(model.image, model.config.image), "text": lower(model.text)}
    driven = {name: 0 for name, module in model.named_modules() if isinstance(module, Neuron)}
    for tower, graph in towers.items():
        for count in counts(graph):
            if isinstance(count, Product) and count.source is not None:
                driven[f"{tower}.{count.source}"] += count.macs
    return driven


def gather(x_BX: Tensor) -> Tensor:
    """Concatenate a tensor over all processes, with gradients; the tensor itself where there is one process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x_BX
    return _Gather.apply(x_BX)  # type: ignore[return-value]


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x_BX: Tensor) -> Tensor:
        parts = [torch.empty_like(x_BX) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x_BX.contiguous())
        ctx.rows = len(x_BX)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        grad = grad.contiguous()
        dist.all_reduce(grad)
        start = dist.get_rank() * ctx.rows
        return grad[start : start + ctx.rows]
