"""Neurons as thin modules: parameters and settings around the functions of `functional`.

A module keeps no state between calls. `forward` takes a current (T, B, ...) and returns spikes of the same
shape; `step` takes and returns the membrane for streaming.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spikeclip.config import NeuronConfig, Surrogate
from spikeclip.errors import InputError, unknown
from spikeclip.neurons import functional
from spikeclip.neurons.surrogate import SURROGATES


class Neuron(nn.Module):
    """What all neurons share: `levels` is the number of spikes that an output of 1 stands for."""

    levels: int = 1

    def step(self, x_X: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One time step: current (B, ...) and state (None at the start) -> (spikes, state)."""
        raise NotImplementedError


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

    def forward(self, x_TX: Tensor) -> Tensor:
        return functional.lif(x_TX, **self._settings())

    def step(self, x_X: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
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

    def forward(self, x_TX: Tensor) -> Tensor:
        if self.relu:
            return torch.relu(x_TX) / self.range
        return functional.ilif(x_TX, **self._settings())

    def step(self, x_X: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if self.relu:
            return self.forward(x_X), None
        return functional.ilif_step(x_X, state, **self._settings())

    def extra_repr(self) -> str:
        return f"D={self.D}, range={torch.as_tensor(self.range).item():g}"


class ReLU(Neuron):
    """The ordinary network's twin: max(x, 0), no state."""

    def forward(self, x_TX: Tensor) -> Tensor:
        return torch.relu(x_TX)

    def step(self, x_X: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return torch.relu(x_X), None


class QuantReLU(ILIF):
    """The quantised ordinary network's twin: a ReLU clipped at `range` with D + 1 levels, no state.

    At T=1 it is I-LIF by another name, which is why it is the fair baseline of an I-LIF network.
    """

    def forward(self, x_TX: Tensor) -> Tensor:
        return super().forward(x_TX[None])[0]  # all of it in one time step

    def step(self, x_X: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self.forward(x_X), None


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
    return s_TX.mean(dtype=torch.float32) * neuron.levels


def density(neuron: Neuron, s_TX: Tensor) -> Tensor:
    """Share of activations that are not zero."""
    return torch.count_nonzero(s_TX.detach()) / s_TX.numel()


@contextmanager
def record(
    model: nn.Module, statistic: Callable[[Neuron, Tensor], Tensor] = mean_spikes
) -> Iterator[dict[str, Tensor]]:
    """Collect `statistic` of every neuron that runs inside the `with` block, by module name.

    A neuron that runs more than once keeps its last value.
    """
    values: dict[str, Tensor] = {}

    def hook(name: str) -> Callable:
        def collect(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            values[name] = statistic(module, output)  # type: ignore[arg-type]

        return collect

    handles = [m.register_forward_hook(hook(n)) for n, m in model.named_modules() if isinstance(m, Neuron)]
    try:
        yield values
    finally:
        for handle in handles:
            handle.remove()


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
