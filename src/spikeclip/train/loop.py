"""The training loop: one stage from its first step, or from a checkpoint, to its selected weights."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spikeclip.neurons import relu_phase
from spikeclip.towers.recompute import keep_activations
from spikeclip.train.average import Average
from spikeclip.train.checkpoint import fitting
from spikeclip.train.checks import (
    SILENT_ROWS,
    Losses,
    SilentLayers,
    check_weights,
    loss_not_finite,
    read,
    watch_rates,
)
from spikeclip.train.feed import Feed
from spikeclip.train.memory import recomputes
from spikeclip.train.network import StageNetwork
from spikeclip.train.optimizer import make_optimizers, schedule
from spikeclip.train.session import Interrupted, Session
from spikeclip.train.stages.stage import Stage
from spikeclip.train.statistics import fix_statistics, recompute_statistics

LOG_EVERY = 20
"""Steps between two rows of the log; between them nothing that a device computes is waited for."""


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
    share = (accelerator.process_index, accelerator.num_processes)
    feed = Feed(stage, accelerator.device, session.feed, share)
    steps = feed.steps
    _choose_parameters(model, stage)
    network = StageNetwork(model, stage, session.precision)
    optimizers = make_optimizers(network, config.optimizer)
    losses = Losses(accelerator.device, optimizers)
    average = Average(model, stage.trains, config.ema)
    prepared = accelerator.prepare(network)
    progress = Progress() if state is None else _restore(state, model, optimizers, average)

    def checkpoint() -> None:
        check_weights(model, progress.step)
        progress.seconds = before + time.monotonic() - started
        held = [optimizer.state_dict() for optimizer in optimizers]
        weights = {"model": model.state_dict(), "average": average.values}
        save({"progress": vars(progress), **weights, "optimizers": held})

    silent = SilentLayers()
    started = saved_at = time.monotonic()
    before = progress.seconds
    report.begin(index, stage, steps.total, progress.step)
    again = recomputes(session.recompute, network, feed)
    with (
        contextlib.nullcontext() if again else keep_activations(),
        contextlib.closing(feed.batches(steps.after(progress.step))) as batches,
    ):
        for inputs, targets in batches:
            step, progress.step = progress.step, progress.step + 1
            logged, ended = step % LOG_EVERY == 0, progress.step % steps.per_epoch == 0
            model.train()
            if config.fixed_statistics:
                fix_statistics(model)
            with (
                relu_phase(model, step < steps.relu),
                watch_rates(model) if logged else contextlib.nullcontext({}) as rates,
            ):
                terms = prepared(inputs, targets)
            loss = torch.stack(list(terms.values())).sum()
            losses.add(loss)
            accelerator.backward(loss)
            if config.optimizer.clip_norm is not None:
                accelerator.clip_grad_norm_(network.parameters(), config.optimizer.clip_norm)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * schedule(step, steps.total, config.optimizer)
                optimizer.step()
                optimizer.zero_grad()
            stage.after_step(model)
            average.update(step)
            report.step(step, steps.batch_size)
            # Several processes stop, save and read together, after steps that all of them know.
            asked = logged or ended or accelerator.num_processes == 1
            stop = asked and session.any_interrupted()
            due = stop or (asked and time.monotonic() - saved_at > session.checkpoint_seconds)
            if logged or ended or due:
                _read_losses(losses, progress, network, session, feed)
            if logged:
                fired = read(rates)
                rates_now = {group["name"]: group["lr"] for o in optimizers for group in o.param_groups}
                values = {"loss": losses.last, **read(terms), **rates_now}
                report.row(step, {**values, "rates": fired})
                for name in silent.update(fired):
                    report.warn(
                        f"layer {name} has not spiked in the last {SILENT_ROWS} logged steps: it passes no gradient"
                    )
            if ended:
                check_weights(model, progress.step)
                with average.shown():
                    _validate(network, progress, session, feed)
            if due:
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


def _read_losses(
    losses: Losses, progress: Progress, network: StageNetwork, session: Session, feed: Feed
) -> None:
    """Take the losses of the steps since the last reading from the device; the first that is no number ends it all."""
    values = losses.read()
    for step, value in enumerate(values, progress.step - len(values)):
        if not math.isfinite(value):
            with relu_phase(network.model, step < feed.steps.relu):
                raise loss_not_finite(network, *feed.batch(*feed.steps.at(step)), step)
        progress.loss_sum += value
    session.report.losses(values)


def _choose_parameters(model: nn.Module, stage: Stage) -> None:
    """Let the parts that the stage trains learn, and fix the temperature where its settings say so."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in stage.trains)
    if stage.config.logit_scale is not None:
        log_scale = model.get_parameter("log_scale").requires_grad_(False)
        log_scale.fill_(math.log(stage.config.logit_scale))


def _restore(
    state: dict[str, Any], model: nn.Module, optimizers: list[Optimizer], average: Average
) -> Progress:
    with fitting():
        average.load(state.get("average", {}))
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return Progress(**state["progress"])


@torch.no_grad()
def _validate(network: StageNetwork, progress: Progress, session: Session, feed: Feed) -> None:
    """Score the model after an epoch, log it, and keep its weights where they are the best so far."""
    model, stage, steps = network.model, network.stage, feed.steps
    last = progress.step - 1
    epoch, relu = last // steps.per_epoch + 1, last < steps.relu
    with relu_phase(model, relu):
        if stage.config.recompute_statistics:
            some = steps.some(epoch, session.accelerator.num_processes)
            recompute_statistics(network, feed.batches(some))
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
