"""Neurons as thin modules: parameters and settings around the functions of `functional`.

A module keeps no state between calls. `forward` takes a current (T, B, ...) and returns spikes of the same
shape; `step` takes and returns the membrane for streaming.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spikeclip.config import NeuronConfig, Surrogate
from spikeclip.errors import InputError, unknown
from spikeclip.neurons import functional
from spikeclip.neurons.surrogate import SURROGATES


class Neuron(nn.Module):
    """What all neurons share; the kinds differ in `fire` and `fire_step`.

    levels: how many spikes an output of 1 stands for. signed: every channel is an ON neuron, driven by the current,
    and an OFF neuron, driven by its negative, whose spikes count as negative. range_C: a current of (T, B, C, H, W) is
    divided by its channel's number first (a fixed buffer, 1 at the start); None for none. statistics, recorded: what
    `record` asks for, and has of the last run; a hook would do as well, but not in a compiled tower.
    """

    levels: int = 1
    signed: bool = False
    range_C: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("range_C", None)
        self.statistics: tuple[Callable[[Neuron, Tensor], Tensor], ...] = ()
        self.recorded: tuple[Tensor | None, ...] = ()

    def fire(self, x_TX: Tensor) -> Tensor:
        """Current (T, B, ...) -> activations of one population, from 0 up."""
        raise NotImplementedError

    def fire_step(self, x_X: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One time step of `fire`, with the state before and after it."""
        raise NotImplementedError

    def forward(self, x_TX: Tensor) -> Tensor:
        x_TX = self._scaled(x_TX)
        s_TX = self.fire(x_TX) - self.fire(-x_TX) if self.signed else self.fire(x_TX)
        if self.statistics:
            self.recorded = tuple([statistic(self, s_TX) for statistic in self.statistics])
        return s_TX

    def step(self, x_X: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One time step: current (B, ...) and state (None at the start) -> (spikes, state)."""
        x_X = self._scaled(x_X)
        if not self.signed:
            return self.fire_step(x_X, state)
        s_2X, state = self.fire_step(torch.stack([x_X, -x_X]), state)
        return s_2X[0] - s_2X[1], state

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.range_C is None else x / self.range_C[:, None, None]


class LIF(Neuron):
    """Leaky integrate-and-fire neurons; see `functional.lif` for the equation and the arguments."""

    def __init__(
        self,
        tau: float = 2.0,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        surrogate: Surrogate = "sigmoid",
        alpha: float = 4.0,
    ) -> None:
        super().__init__()
        if tau <= 1:
            raise InputError(f"tau must be above 1 time step, got {tau}")
        if surrogate not in SURROGATES:
            raise unknown("surrogate", surrogate, SURROGATES)
        self.tau, self.v_threshold, self.v_reset = tau, v_threshold, v_reset
        self.detach_reset, self.surrogate, self.alpha = detach_reset, surrogate, alpha

    def time_constant(self) -> float | Tensor:
        """Return tau in time steps."""
        return self.tau

    def _settings(self) -> dict:
        return {
            "tau": self.time_constant(),
            "v_threshold": self.v_threshold,
            "v_reset": self.v_reset,
            "detach_reset": self.detach_reset,
            "surrogate": self.surrogate,
            "alpha": self.alpha,
        }

    def fire(self, x_TX: Tensor) -> Tensor:
        return functional.lif(x_TX, **self._settings())

    def fire_step(self, x_X: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return functional.lif_step(x_X, state, **self._settings())

    def extra_repr(self) -> str:
        tau = torch.as_tensor(self.time_constant()).item()
        return f"tau={tau:g}, v_threshold={self.v_threshold}, v_reset={self.v_reset}"


class PLIF(LIF):
    """LIF with a learnable time constant, one per layer: 1/tau = sigmoid(w) (Fang et al., ICCV 2021)."""

    def __init__(
        self,
        tau: float = 2.0,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        surrogate: Surrogate = "sigmoid",
        alpha: float = 4.0,
    ) -> None:
        super().__init__(tau, v_threshold, v_reset, detach_reset, surrogate, alpha)
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1)))

    def time_constant(self) -> Tensor:
        return 1 / self.w.sigmoid()


class ILIF(Neuron):
    """Integer LIF with D levels and output in [0, 1]; see `functional.ilif`.

    `learn_range` makes the range a parameter. `relu` is a mode like `training`, set by `relu_phase`.
    """

    def __init__(
        self,
        D: int = 4,
        range: float = 2.0,
        tau: float = 2.0,
        detach_reset: bool = True,
        learn_range: bool = False,
    ) -> None:
        super().__init__()
        if D < 1:
            raise InputError(f"D must be at least 1 level, got {D}")
        if range <= 0 or tau <= 1:
            raise InputError(f"range must be above 0 and tau above 1, got range={range}, tau={tau}")
        self.levels, self.D, self.tau, self.detach_reset = D, D, tau, detach_reset
        self.range = nn.Parameter(torch.tensor(float(range))) if learn_range else float(range)
        self.relu = False

    def _settings(self) -> dict:
        return {"D": self.D, "range": self.range, "tau": self.tau, "detach_reset": self.detach_reset}

    def fire(self, x_TX: Tensor) -> Tensor:
        if self.relu:
            return torch.relu(x_TX) / self.range
        return functional.ilif(x_TX, **self._settings())

    def fire_step(self, x_X: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.relu:
            return self.fire(x_X), None
        return functional.ilif_step(x_X, state, **self._settings())

    def extra_repr(self) -> str:
        return f"D={self.D}, range={torch.as_tensor(self.range).item():g}"


class ReLU(Neuron):
    """The ordinary network's twin: max(x, 0), no state. ceiling: largest activation (6 of a ReLU6); None for none."""

    def __init__(self, ceiling: float | None = None) -> None:
        super().__init__()
        self.ceiling = ceiling

    def fire(self, x_TX: Tensor) -> Tensor:
        return torch.relu(x_TX) if self.ceiling is None else x_TX.clamp(0, self.ceiling)

    def fire_step(self, x_X: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.fire(x_X), None


class QuantReLU(ILIF):
    """The quantised ordinary network's twin: a ReLU clipped at `range` with D + 1 levels, no state.

    At T=1 it is I-LIF by another name, which is why it is the fair baseline of an I-LIF network.
    """

    def fire(self, x_TX: Tensor) -> Tensor:
        return super().fire(x_TX[None])[0]  # all of it in one time step

    def fire_step(self, x_X: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.fire(x_X), None


def make_channel_neuron(
    config: NeuronConfig, channels: int, *, signed: bool = False, ceiling: float | None = None
) -> Neuron:
    """Return the neuron of `config` with a range of its own in each channel of (T, B, C, H, W).

    signed: for a current that may be negative, ON and OFF neurons. ceiling: of the ordinary twin, see `ReLU`.
    """
    neuron = ReLU(ceiling) if config.kind == "relu" else make_neuron(config)
    neuron.signed = signed
    neuron.range_C = torch.ones(channels)
    return neuron


def set_first(tower: nn.Module, levels: Sequence[int], ranges: Sequence[float] = ()) -> None:
    """Give the first I-LIF or quantised neurons of a tower their own D, and their own range, in their order.

    A tower of other neurons has neither and stays as it is, so that a network and its ReLU twin share their settings.
    Raises `InputError` for more levels or ranges than there are neurons.
    """
    neurons = [module for module in tower.modules() if isinstance(module, ILIF)]
    if not neurons:
        return
    for name, given in (("first_D", levels), ("first_range", ranges)):
        if len(given) > len(neurons):
            raise InputError(
                f"{name} has {len(given)} values, and the image tower {len(neurons)} neurons with levels"
            )
    for neuron, D in zip(neurons, levels, strict=False):
        neuron.levels = neuron.D = D
    for neuron, width in zip(neurons, ranges, strict=False):
        if isinstance(neuron.range, nn.Parameter):
            nn.init.constant_(neuron.range, width)
        else:
            neuron.range = float(width)


def make_neuron(config: NeuronConfig, scale: float = 1.0) -> Neuron:
    """Return the neuron of `config` with its threshold or range multiplied by `scale`."""
    if config.kind in ("lif", "plif"):
        return (LIF if config.kind == "lif" else PLIF)(
            tau=config.tau,
            v_threshold=config.v_threshold * scale,
            v_reset=config.v_reset,
            detach_reset=config.detach_reset,
            surrogate=config.surrogate,
            alpha=config.alpha,
        )
    if config.kind == "relu":
        return ReLU()
    return (ILIF if config.kind == "ilif" else QuantReLU)(
        D=config.D,
        range=config.range * scale,
        tau=config.tau,
        detach_reset=config.detach_reset,
        learn_range=config.learn_range,
    )


def mean_spikes(neuron: Neuron, s_TX: Tensor) -> Tensor:
    """Mean spikes per neuron and time step (an integer activation n counts n), differentiable."""
    return (s_TX.abs() if neuron.signed else s_TX).mean(dtype=torch.float32) * neuron.levels


def density(neuron: Neuron, s_TX: Tensor) -> Tensor:
    """Share of activations that are not zero."""
    return torch.count_nonzero(s_TX.detach()) / s_TX.numel()


@contextmanager
def record(
    model: nn.Module, statistic: Callable[[Neuron, Tensor], Tensor] = mean_spikes
) -> Iterator[dict[str, Tensor]]:
    """Collect `statistic` of every neuron that runs inside the `with` block, by module name, for after its end.

    A neuron that runs more than once keeps its last value. A tower that is compiled gives them too.
    """
    values: dict[str, Tensor] = {}
    neurons = {name: module for name, module in model.named_modules() if isinstance(module, Neuron)}
    for neuron in neurons.values():
        neuron.statistics, neuron.recorded = (*neuron.statistics, statistic), (*neuron.recorded, None)
    try:
        yield values
    finally:
        for name, neuron in neurons.items():
            *before, value = neuron.recorded
            neuron.statistics, neuron.recorded = neuron.statistics[:-1], tuple(before)
            if value is not None:
                values[name] = value


@contextmanager
def relu_phase(model: nn.Module, active: bool = True) -> Iterator[None]:
    """Run every I-LIF and quantised neuron of `model` as relu(x) / range inside the `with` block.

    A network that starts as a ReLU and turns spiking half way is about a point more accurate than one that
    spikes from the first step. Raises `InputError` where the model has LIF neurons, which have no such mode.
    """
    neurons = [m for m in model.modules() if isinstance(m, ILIF)]
    if active and any(isinstance(m, LIF) for m in model.modules()):
        raise InputError("relu_first works with neuron ilif or quant_relu; lif and plif have no ReLU phase")
    for neuron in neurons:
        neuron.relu = active
    try:
        yield
    finally:
        for neuron in neurons:
            neuron.relu = False
