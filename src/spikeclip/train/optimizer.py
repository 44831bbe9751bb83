"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, _foreach_add, _foreach_add_, _foreach_mul_, _foreach_norm, nn  # type: ignore
from torch.optim import Adafactor, AdamW, Optimizer

from spikeclip.config import OptimizerConfig
from spikeclip.towers.norm import ConvBN, LinearBN
from spikeclip.train.precision import has_bf16


class Muon(Optimizer):
    """Muon for filters and matrices (Keller Jordan, airbench94_muon; torch.optim.Muon takes matrices only).

    Nesterov momentum, then the update is orthogonalised by Newton-Schulz steps on the filter flattened to
    (outputs, rest). Before each step every filter is scaled to the norm sqrt(outputs): the BatchNorm behind it
    makes its size meaningless, and a fixed one keeps the step's relative size known.

    together: move filters of one shape as one batch: a GPU starts fewer kernels, a CPU leaves its cache. None: as the
    device likes it.
    """

    found_inf: Tensor | None = None
    """A number on the device: while it is not 0 the weights stay. Fused optimisers of PyTorch read it too."""
    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.6, together: bool | None = None
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self.together = together

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            learning: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            for filters in self._batches(learning):
                self._move(filters, group["lr"], group["momentum"])

    def _batches(self, filters: list[Tensor]) -> list[list[Tensor]]:
        batches: dict[tuple[int, ...], list[Tensor]] = {}
        for i, p in enumerate(filters):
            together = p.device.type != "cpu" if self.together is None else self.together
            batches.setdefault((len(p), p.numel()) if together else (i,), []).append(p)
        return list(batches.values())

    def _move(self, filters: list[Tensor], lr: float, momentum: float) -> None:
        """Take a step with filters that are equally many outputs of equally many numbers."""
        for p in filters:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        grads = [p.grad for p in filters if p.grad is not None]
        velocities = [self.state[p]["momentum"] for p in filters]
        _foreach_mul_(velocities, momentum)
        _foreach_add_(velocities, grads)
        updates = _foreach_add(grads, velocities, alpha=momentum)
        flat = [update.flatten(1) for update in updates]
        moves_GMN = orthogonalize(torch.stack(flat)) if len(flat) > 1 else orthogonalize(flat[0])[None]
        scales_G = len(filters[0]) ** 0.5 / torch.stack(_foreach_norm(filters))
        if self.found_inf is not None:
            moves_GMN = torch.where(self.found_inf > 0, 0.0, moves_GMN)
            scales_G = torch.where(self.found_inf > 0, 1.0, scales_G)
        _foreach_mul_(filters, list(scales_G.unbind()))
        moves = [move.view_as(p) for move, p in zip(moves_GMN, filters, strict=True)]
        _foreach_add_(filters, moves, alpha=-lr)


def orthogonalize(matrices: Tensor, steps: int = 3, eps: float = 1e-7) -> Tensor:
    """Push the singular values of matrices towards 1 by Newton-Schulz steps, in bf16 where it is fast.

    matrices: (m, n), or several (G, m, n). Coefficients 3.4445, -4.7750, 2.0315 (Muon, Keller Jordan 2024): fast rather
    than exact.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(torch.bfloat16 if has_bf16(matrices.device.type) else torch.float32)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + eps)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    multiply_add = torch.addmm if x.ndim == 2 else torch.baddbmm
    for _ in range(steps):
        gram = x @ x.mT
        x = multiply_add(x, multiply_add(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


def make_optimizers(module: nn.Module, config: OptimizerConfig) -> list[Optimizer]:
    """Return the optimisers of every trainable parameter.

    Their groups have `peak`, the rate that schedules multiply, and `name`, the setting that it is from.
    """
    filters = [
        weight
        for m in module.modules()
        if isinstance(m, (ConvBN, LinearBN))
        for weight in [m.conv.weight if isinstance(m, ConvBN) else m.linear.weight]
        if weight.requires_grad
    ]
    trainable = [p for p in module.parameters() if p.requires_grad]
    optimizers: list[Optimizer] = []
    if config.kind == "adafactor":  # arXiv 1804.04235, section 8: relative steps
        optimizers.append(Adafactor(_decayed(trainable, config.weight_decay), lr=config.lr))
    elif config.kind == "adamw":
        optimizers.append(_adamw(trainable, config.lr, config.weight_decay))
    else:
        held = {id(p) for p in filters}
        rest = [p for p in trainable if id(p) not in held]
        if filters:
            optimizers.append(Muon(filters, config.lr, config.momentum))
        optimizers.append(_adamw(rest, config.scalar_lr, config.weight_decay, betas=(0.9, 0.95)))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            scalar = config.kind == "muon" and not isinstance(optimizer, Muon)
            group |= {"peak": group["lr"], "name": "scalar_lr" if scalar else "lr"}
    return optimizers


def _adamw(parameters: list[nn.Parameter], lr: float, weight_decay: float, **options: Any) -> AdamW:
    return AdamW(_decayed(parameters, weight_decay), lr=lr, fused=True, **options)


def _decayed(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return groups in which matrices decay, and vectors and single numbers do not."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def schedule(step: int, total: int, config: OptimizerConfig) -> float:
    """Return the learning rate of step `step` of `total` as a share of the peak."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    decay = 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1 - done
    return config.final + (1 - config.final) * decay
