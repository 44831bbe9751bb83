"""The training loop: one stage from its first step, or from a checkpoint, to its selected weights."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from spikeclip.neurons import relu_phase
from spikeclip.train.checkpoint import fitting
from spikeclip.train.checks import SILENT_ROWS, SilentLayers, check_weights, loss_not_finite, watch_rates
from spikeclip.train.network import StageNetwork
from spikeclip.train.optimizer import make_optimizers, schedule
from spikeclip.train.session import Interrupted, Session
from spikeclip.train.stages.stage import Batch, Stage
from spikeclip.train.statistics import BATCH, SAMPLES, fix_statistics, recompute_statistics

LOG_EVERY = 20
"""Steps between two rows of the log."""


@dataclass
class Progress:
    """Where a stage stands; with the weights and optimisers this is all that a checkpoint holds.

    best_*: of the weights that are selected so far. loss_sum: of the steps of the epoch under way. history: of each
    finished epoch its number from 1, the mean `loss` and the validation score by its name.
    """

    step: int = 0
    best_score: float = -math.inf
    best_step: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    loss_sum: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Steps:
    """The steps of a stage: how many there are, and which samples each of them reads."""

    def __init__(self, stage: Stage) -> None:
        config, self.seed = stage.config, stage.seed
        count = max(1, round(config.share * stage.samples))
        self.used = self._order(stage.samples, 0)[:count].sort().values
        self.batch_size = config.batch_size
        self.per_epoch = max(1, count // config.batch_size)
        self.total = self.per_epoch * config.epochs
        self.relu = round(config.relu_first * self.total)
        self._epoch = -1

    def at(self, step: int) -> tuple[int, Tensor]:
        """Return the epoch of a step and the indices (B,) of its samples, which a resumed training repeats."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._shuffled = epoch, self.used[self._order(len(self.used), epoch)]
        return epoch, self._shuffled[place * self.batch_size :][: self.batch_size]

    def some(self, epoch: int, processes: int) -> list[Tensor]:
        """Return batches of indices from all samples, drawn for an epoch, to compute statistics from."""
        shuffled = self.used[self._order(len(self.used), epoch)][:SAMPLES]
        size = min(BATCH, len(shuffled)) // processes * processes
        return [indices_B for indices_B in shuffled.split(size) if len(indices_B) == size]

    def _order(self, samples: int, epoch: int) -> Tensor:
        mixed = (self.seed * 1_000_003 + epoch) * 1_000_003
        return torch.randperm(samples, generator=torch.Generator().manual_seed(mixed % 2**63))


def run_stage(
    model: nn.Module,
    stage: Stage,
    session: Session,
    *,
    index: int,
    save: Callable[[dict[str, Any]], None],
    state: dict[str, Any] | None = None,
) -> Progress:
    """Train one stage and leave the weights with the best validation score in `model`, or the last, as it selects.

    model: has `logit_scale`, the factor on its cosines, and, where the stage fixes it, the parameter `log_scale`
    behind it. index: number of the stage in its run. save(state): writes a checkpoint; `state` is one that was
    written. Raises `Interrupted` after Ctrl-C in any process and a checkpoint, and `InputError` when the loss or a
    weight stops being a number.
    """
    config, accelerator, report = stage.config, session.accelerator, session.report
    steps = Steps(stage)
    _choose_parameters(model, stage)
    network = StageNetwork(model, stage, session.precision)
    optimizers = make_optimizers(network, config.optimizer)
    prepared = accelerator.prepare(network)
    progress = Progress() if state is None else _restore(state, model, optimizers)

    def checkpoint() -> None:
        check_weights(model, progress.step)
        progress.seconds = before + time.monotonic() - started
        held = [optimizer.state_dict() for optimizer in optimizers]
        save({"progress": vars(progress), "model": model.state_dict(), "optimizers": held})

    silent = SilentLayers()
    started = saved_at = time.monotonic()
    before = progress.seconds
    report.begin(index, stage, steps.total, progress.step)
    while progress.step < steps.total:
        step = progress.step
        logged = step % LOG_EVERY == 0
        epoch, indices_B = steps.at(step)
        inputs, targets = _batch(stage, indices_B, epoch, accelerator)
        model.train()
        if config.fixed_statistics:
            fix_statistics(model)
        with relu_phase(model, step < steps.relu):
            with watch_rates(model) if logged else contextlib.nullcontext({}) as rates:
                terms = prepared(inputs, targets)
            loss = torch.stack(list(terms.values())).sum()
            value = loss.item()
            if not math.isfinite(value):
                raise loss_not_finite(network, inputs, targets, step)
        accelerator.backward(loss)
        if config.optimizer.clip_norm is not None:
            accelerator.clip_grad_norm_(network.parameters(), config.optimizer.clip_norm)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * schedule(step, steps.total, config.optimizer)
            optimizer.step()
            optimizer.zero_grad()
        stage.after_step(model)
        progress.step = step + 1
        progress.loss_sum += value
        report.step(step, value, len(indices_B))
        if logged:
            fired = {name: rate.item() for name, rate in rates.items()}
            values = {name: term.item() for name, term in terms.items()}
            rates_now = {group["name"]: group["lr"] for o in optimizers for group in o.param_groups}
            report.row(step, {"loss": value, **values, **rates_now, "rates": fired})
            for name in silent.update(fired):
                report.warn(
                    f"layer {name} has not spiked in the last {SILENT_ROWS} logged steps: it passes no gradient"
                )
        if progress.step % steps.per_epoch == 0:
            check_weights(model, progress.step)
            _validate(network, progress, session, steps)
        stop = session.any_interrupted()
        if stop or time.monotonic() - saved_at > session.checkpoint_seconds:
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


def _choose_parameters(model: nn.Module, stage: Stage) -> None:
    """Let the parts that the stage trains learn, and fix the temperature where its settings say so."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in stage.trains)
    if stage.config.logit_scale is not None:
        log_scale = model.get_parameter("log_scale").requires_grad_(False)
        log_scale.fill_(math.log(stage.config.logit_scale))


def _restore(state: dict[str, Any], model: nn.Module, optimizers: list[Optimizer]) -> Progress:
    with fitting():
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return Progress(**state["progress"])


def _batch(stage: Stage, indices_B: Tensor, epoch: int, accelerator: Accelerator) -> tuple[Batch, Batch]:
    """Inputs and targets of this process's share of a batch, on its device."""
    world, rank = accelerator.num_processes, accelerator.process_index
    inputs, targets = stage.batch(indices_B.chunk(world)[rank], epoch)
    device = accelerator.device
    return (
        {name: value.to(device) for name, value in inputs.items()},
        {name: value.to(device) for name, value in targets.items()},
    )


@torch.no_grad()
def _validate(network: StageNetwork, progress: Progress, session: Session, steps: Steps) -> None:
    """Score the model after an epoch, log it, and keep its weights where they are the best so far."""
    model, stage, accelerator = network.model, network.stage, session.accelerator
    last = progress.step - 1
    epoch, relu = last // steps.per_epoch + 1, last < steps.relu
    with relu_phase(model, relu):
        if stage.config.recompute_statistics:
            some = steps.some(epoch, accelerator.num_processes)
            recompute_statistics(network, (_batch(stage, i_B, epoch, accelerator) for i_B in some))
        model.eval()
        score = stage.score(model)
    loss, progress.loss_sum = progress.loss_sum / steps.per_epoch, 0.0
    progress.history.append({"epoch": epoch, "loss": loss, stage.score_name: score})
    session.report.epoch(epoch, last, {"train_loss": loss, stage.score_name: score}, model)
    # A ReLU is no candidate for a network that is to spike, unless the whole stage is a ReLU.
    if relu and steps.relu < steps.total:
        return
    if score >= progress.best_score or stage.config.select == "last":
        progress.best_score, progress.best_step = score, progress.step
        progress.best_state = {name: value.clone() for name, value in model.state_dict().items()}
