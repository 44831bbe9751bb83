"""The training loop: one stage from its first step, or from a checkpoint, to its selected weights."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from spikeclip.errors import InputError
from spikeclip.model import SpikeCLIP
from spikeclip.neurons import record, relu_phase
from spikeclip.train.network import StageNetwork
from spikeclip.train.optimizer import make_optimizers, schedule
from spikeclip.train.report import Report
from spikeclip.train.stages import Batch, Stage

LOG_EVERY = 20
"""Steps between two rows of the log."""
SILENT_ROWS = 5
"""Rows of the log after which a layer without a spike is reported."""

_ADVICE = "; lower the learning rate (the last checkpoint is kept)"


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: the checkpoint has been written."""


@dataclass
class Progress:
    """Where a stage stands; with the weights and optimisers this is all a checkpoint holds."""

    step: int = 0
    best_score: float = -math.inf
    best_step: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0


def run_stage(
    model: SpikeCLIP,
    stage: Stage,
    accelerator: Accelerator,
    report: Report,
    *,
    index: int,
    seed: int,
    precision: torch.dtype,
    save: Callable[[dict[str, Any]], None],
    every_seconds: float,
    state: dict[str, Any] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train one stage and leave the weights with the best validation score in `model`.

    index: number of the stage in its run. save(state): writes a checkpoint; `state` is one that was written.
    Raises `Interrupted` after `interrupted()` turned true in any process and a checkpoint was written, and
    `InputError` when the loss or a weight stops being a number.
    """
    config = stage.config
    used = _epoch_order(stage.samples, seed, 0)[: max(1, round(config.share * stage.samples))].sort().values
    steps_per_epoch = max(1, len(used) // config.batch_size)
    total = steps_per_epoch * config.epochs
    relu_steps = round(config.relu_first * total)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in stage.trains)
    if config.logit_scale is not None:
        model.log_scale.requires_grad_(False).fill_(math.log(config.logit_scale))

    network = StageNetwork(model, stage, precision)
    optimizers = make_optimizers(network, config.optimizer)
    prepared = accelerator.prepare(network)
    progress = Progress()
    if state is not None:
        progress = Progress(**state["progress"])
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def checkpoint() -> None:
        _check_weights(model, progress.step)
        progress.seconds = before + time.monotonic() - started
        held = [optimizer.state_dict() for optimizer in optimizers]
        save({"progress": vars(progress), "model": model.state_dict(), "optimizers": held})

    silent: dict[str, int] = {}
    started = saved_at = time.monotonic()
    before = progress.seconds
    report.begin(index, stage, total, progress.step)
    while progress.step < total:
        step = progress.step
        epoch, place = divmod(step, steps_per_epoch)
        order = used[_epoch_order(len(used), seed, epoch)]
        indices = order[place * config.batch_size :][: config.batch_size]
        inputs, targets = _batch(stage, indices, seed, step, epoch, accelerator)
        model.train()
        with relu_phase(model, step < relu_steps):
            with _watch(model) if step % LOG_EVERY == 0 else contextlib.nullcontext({}) as rates:
                terms = prepared(inputs, targets)
            loss = torch.stack(list(terms.values())).sum()
            if not math.isfinite(loss.item()):
                raise InputError(_not_finite(network, inputs, targets, step))
        accelerator.backward(loss)
        if config.optimizer.clip_norm is not None:
            accelerator.clip_grad_norm_(network.parameters(), config.optimizer.clip_norm)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * schedule(step, total, config.optimizer)
            optimizer.step()
            optimizer.zero_grad()
        progress.step = step + 1
        report.step(step, loss.item(), len(indices))
        if step % LOG_EVERY == 0:
            values = {name: term.item() for name, term in terms.items()}
            report.row(
                step, {"loss": loss.item(), **values, "rates": {n: r.item() for n, r in rates.items()}}
            )
            _watch_silence(rates, silent, report)
        if progress.step % steps_per_epoch == 0:
            _check_weights(model, progress.step)
            relu = step < relu_steps
            # A ReLU is no candidate for a network that is to spike, unless the whole stage is a ReLU.
            _validate(model, stage, progress, report, epoch, relu, select=not relu or relu_steps >= total)
        stop = _any_process(interrupted(), accelerator)
        if stop or time.monotonic() - saved_at > every_seconds:
            checkpoint()
            saved_at = time.monotonic()
            if stop:
                raise Interrupted
    progress.seconds = before + time.monotonic() - started
    if progress.best_state:
        model.load_state_dict(progress.best_state)
    model.eval()
    accelerator.free_memory()  # it keeps what it prepared, and every stage prepares the model anew
    report.end(stage, progress)
    return progress


def _epoch_order(samples: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(samples, generator=_generator(seed, epoch, 0))


def _generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """Randomness depends on the place in the run alone, so a resumed run repeats it."""
    mixed = (seed * 1_000_003 + epoch) * 1_000_003 + step
    return torch.Generator().manual_seed(mixed % 2**63)


def _batch(
    stage: Stage, indices: Tensor, seed: int, step: int, epoch: int, accelerator: Accelerator
) -> tuple[Batch, Batch]:
    """Inputs of this process's share and targets of the whole batch, on the device.

    Each process prepares the whole batch and keeps its share: that costs little and makes the pictures the same
    for every number of processes.
    """
    world, rank = accelerator.num_processes, accelerator.process_index
    if len(indices) % world:
        raise InputError(f"batch size {len(indices)} does not divide among {world} processes")
    share = slice(rank * len(indices) // world, (rank + 1) * len(indices) // world)
    inputs = stage.inputs(indices, epoch, _generator(seed, epoch, step + 1))
    targets = stage.targets(indices, _generator(seed, epoch, step + 1))
    device = accelerator.device
    return (
        {name: value[share].to(device) for name, value in inputs.items()},
        {name: value.to(device) for name, value in targets.items()},
    )


@torch.no_grad()
def _validate(
    model: SpikeCLIP,
    stage: Stage,
    progress: Progress,
    report: Report,
    epoch: int,
    relu: bool,
    select: bool,
) -> None:
    model.eval()
    with relu_phase(model, relu):
        score = stage.score(model)
    report.epoch(epoch, progress.step - 1, {stage.score_name: score}, model)
    if select and score >= progress.best_score:
        progress.best_score, progress.best_step = score, progress.step
        progress.best_state = {name: value.clone() for name, value in model.state_dict().items()}


def _any_process(flag: bool, accelerator: Accelerator) -> bool:
    """Whether the flag is set anywhere, so that all processes stop after the same step."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)))


def _check_weights(model: SpikeCLIP, step: int) -> None:
    for name, value in model.state_dict().items():
        if not torch.isfinite(value).all():
            raise InputError(f"{name} is not a number after step {step}{_ADVICE}")


@contextlib.contextmanager
def _watch(model: SpikeCLIP) -> Iterator[dict[str, Tensor]]:
    """Record firing rates; a compiled tower runs as it was written meanwhile, because it calls no hooks."""
    with torch.compiler.set_stance("force_eager"), record(model) as rates:
        yield rates


def _watch_silence(rates: dict[str, Tensor], silent: dict[str, int], report: Report) -> None:
    for name, rate in rates.items():
        silent[name] = 0 if rate.item() > 0 else silent.get(name, 0) + 1
        if silent[name] == SILENT_ROWS:
            report.warn(
                f"layer {name} has not spiked in the last {SILENT_ROWS} logged steps: it passes no gradient"
            )


def _not_finite(network: StageNetwork, inputs: Batch, targets: Batch, step: int) -> str:
    """Run the batch again and name the first layer whose output is not finite."""
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
    return f"the loss is not a number at step {step}, {where}{_ADVICE}"


@contextlib.contextmanager
def catch_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag; a second one acts as usual."""
    asked = []

    def ask(number: int, frame: Any) -> None:
        asked.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
