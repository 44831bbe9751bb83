"""What goes wrong in a training: losses and weights that are not numbers, and layers that do not spike."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spikeclip.errors import InputError
from spikeclip.neurons import record
from spikeclip.train.network import StageNetwork
from spikeclip.train.stages.stage import Batch

SILENT_ROWS = 5
"""Rows of the log after which a layer without a spike is reported."""
_ADVICE = "; lower the learning rate and start anew"


class Losses:
    """The losses of the steps since the last reading, which stay on the device until then.

    From the first one on that is not finite the optimisers leave the weights alone, so that they are still those that
    made it when it is read. last: the newest that was read.
    """

    def __init__(self, device: torch.device, optimizers: Iterable[Optimizer]) -> None:
        self.last = math.nan
        self._unread: list[Tensor] = []
        self._failed = torch.zeros((), device=device)
        for optimizer in optimizers:
            if getattr(
                optimizer, "_step_supports_amp_scaling", False
            ):  # PyTorch's word for those that read it
                optimizer.found_inf = self._failed  # type: ignore[attr-defined]
            else:
                optimizer.register_step_pre_hook(self._stop)

    def _stop(self, optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.masked_fill_(self._failed > 0, 0)

    def add(self, loss: Tensor) -> None:
        """Take the loss of a step."""
        loss = loss.detach()
        self._unread.append(loss)
        self._failed.masked_fill_(~torch.isfinite(loss), 1.0)

    def read(self) -> list[float]:
        """Return the losses since the last reading, in order."""
        values = torch.stack(self._unread).tolist() if self._unread else []
        self._unread.clear()
        self.last = values[-1] if values else self.last
        return values


def read(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return single numbers of a device by their names, all of them copied at once."""
    if not values:
        return {}
    numbers = torch.stack([value.detach().float() for value in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))


def check_weights(model: nn.Module, step: int) -> None:
    """Raise `InputError` where a weight or a running statistic is not a number after `step` steps."""
    finite = read({name: torch.isfinite(value).all() for name, value in model.state_dict().items()})
    for name in (name for name, number in finite.items() if not number):
        raise InputError(f"{name} is not a number after step {step}{_ADVICE}")


def loss_not_finite(network: StageNetwork, inputs: Batch, targets: Batch, step: int) -> InputError:
    """Run the batch again and return an error that names the first layer whose output is not finite."""
    first: list[str] = []

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not first and not torch.isfinite(output).all():
                first.append(name)

        return hook

    leaves = [(n, m) for n, m in network.model.named_modules() if n and not list(m.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # compiled towers call no hooks
        network(inputs, targets)
    for handle in handles:
        handle.remove()
    where = f"first in layer {first[0]}" if first else "in the loss itself"
    return InputError(f"the loss is not a number at step {step}, {where}{_ADVICE}")


@contextlib.contextmanager
def watch_rates(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record firing rates; a compiled tower runs as it was written meanwhile, because it calls no hooks."""
    with torch.compiler.set_stance("force_eager"), record(model) as rates:
        yield rates


class SilentLayers:
    """Finds layers that have not spiked in `SILENT_ROWS` rows of the log in a row, each once."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def update(self, rates: Mapping[str, float]) -> list[str]:
        """Take the rates of a row of the log; return the layers that have now been silent for too long."""
        for name, rate in rates.items():
            self.rows[name] = 0 if rate > 0 else self.rows.get(name, 0) + 1
        return [name for name in rates if self.rows[name] == SILENT_ROWS]
