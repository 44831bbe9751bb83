"""How often neurons fire: one pass over a set of inputs, every time step, with confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from importlib.util import find_spec
from operator import add
from typing import Literal

import numpy as np

from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.execute import check_tokens, end_mask, execute
from spikeclip.graph.ops import Graph, Op

Watch = Callable[[str, np.ndarray], None]
Z95 = 1.96


@dataclass(frozen=True)
class Firing:
    """Spikes of one layer of neurons, summed over inputs, by time step. Two of them add up."""

    inputs: int
    neurons: float
    """Neurons of all inputs together (a longer text has more)."""
    spikes_T: np.ndarray
    """An integer activation n counts n."""
    active_T: np.ndarray
    """Activations that are not zero."""
    rates_T: np.ndarray
    """Sum over inputs of each one's spikes per neuron."""
    squares_T: np.ndarray
    """Sum of their squares."""

    def __add__(self, other: Firing) -> Firing:
        return Firing(
            self.inputs + other.inputs,
            self.neurons + other.neurons,
            self.spikes_T + other.spikes_T,
            self.active_T + other.active_T,
            self.rates_T + other.rates_T,
            self.squares_T + other.squares_T,
        )

    @property
    def rate_T(self) -> np.ndarray:
        """Mean spikes per neuron in each time step."""
        return self.spikes_T / self.neurons

    @property
    def rate(self) -> float:
        """Mean spikes per neuron and time step."""
        return float(self.rate_T.mean())

    @property
    def density(self) -> float:
        """Share of activations that are not zero."""
        return float((self.active_T / self.neurons).mean())

    @property
    def interval_T(self) -> np.ndarray:
        """Half of the 95 % confidence interval of `rate_T`: 1.96 standard errors over inputs; NaN for one input."""
        if self.inputs < 2:
            return np.full(len(self.rates_T), np.nan)
        mean_T = self.rates_T / self.inputs
        variance_T = (self.squares_T - self.inputs * mean_T**2) / (self.inputs - 1)
        return Z95 * np.sqrt(np.maximum(variance_T, 0) / self.inputs)


@dataclass(frozen=True)
class Group:
    """Inputs of one shape, and how every layer of neurons fired on them."""

    shape: tuple[int, ...]
    """Shape of one input, without the batch: (H, W, C), (H, W, T, C) or (L,)."""
    inputs: int
    firing: dict[str, Firing]
    products_LL: np.ndarray
    """Sum over inputs of the products of their spikes in any two layers, in the order of `firing`."""

    @property
    def spikes(self) -> dict[str, float]:
        """Spikes of one input over all its time steps, by layer: what `ledger` reads."""
        return {name: float(f.spikes_T.sum()) / self.inputs for name, f in self.firing.items()}

    @property
    def scatter_LL(self) -> np.ndarray:
        """Sum over inputs of the products of their spikes' deviations from the mean: covariance times inputs - 1."""
        mean_L = np.array(list(self.spikes.values()))
        return self.products_LL - self.inputs * np.outer(mean_L, mean_L)


def spiking_run(
    graph: Graph, precision: Literal["fp32", "int8"] = "fp32", dense: bool = False
) -> Callable[[np.ndarray, Watch], np.ndarray]:
    """Return a function that embeds inputs and shows every layer's spikes (T, B, ...) to its second argument.

    It is the engine by events, or without numba and where `dense` the dense executor, which has no int8. Raises
    `InputError` for a network that does not spike.
    """
    relu = next((op for op in graph.ops if isinstance(op, ops.Neuron) and op.kind == "relu"), None)
    if relu is not None:
        raise InputError(
            f"{relu.name} is a ReLU: this network does not spike, and a spiking one's ledger holds its ordinary twins"
        )
    if (find_spec("numba") is not None and not dense) or precision == "int8":
        from spikeclip.engine import Engine

        return Engine(graph, precision=precision, mode="events")

    def run(inputs: np.ndarray, watch: Watch) -> np.ndarray:
        def neurons(op: Op, value: np.ndarray) -> None:
            if isinstance(op, ops.Neuron):
                watch(op.name, value)

        return execute(graph, inputs, neurons)

    return run


def measure_firing(
    run: Callable[[np.ndarray, Watch], np.ndarray], batches: Iterable[np.ndarray]
) -> tuple[np.ndarray, list[Group]]:
    """Run batches once; return the embeddings (N, embed_dim) and the firing, one group for each shape of input.

    Memory does not grow with the number of batches. Raises `InputError` for none.
    """
    groups: dict[tuple[int, ...], Group] = {}
    embeddings = []
    for batch in batches:
        spikes: dict[str, np.ndarray] = {}
        firing: dict[str, Firing] = {}

        def watch(name: str, s_TX: np.ndarray, spikes: dict = spikes, firing: dict = firing) -> None:
            spikes[name], firing[name] = _sums(s_TX)

        embeddings.append(run(batch, watch))
        spikes_BL = np.array(list(spikes.values())).reshape(len(spikes), len(batch)).T
        shape = batch.shape[1:]
        group = Group(shape, len(batch), firing, spikes_BL.T @ spikes_BL)
        groups[shape] = _merged(groups[shape], group) if shape in groups else group
    if not embeddings:
        raise InputError("no inputs to measure firing rates on")
    return np.concatenate(embeddings), list(groups.values())


def all_firing(groups: list[Group]) -> dict[str, Firing]:
    """Return the firing of every layer over inputs of all shapes."""
    names = groups[0].firing
    return {name: reduce(add, [group.firing[name] for group in groups]) for name in names}


def _sums(s_TX: np.ndarray) -> tuple[np.ndarray, Firing]:
    """Return the spikes of every input (B,) and the sums over inputs."""
    level_TBK = s_TX.reshape(*s_TX.shape[:2], -1)
    if level_TBK.dtype.kind != "u":  # spikes of OFF neurons count as negative
        level_TBK = np.abs(level_TBK)
    T, B, K = level_TBK.shape
    spikes_TB = level_TBK.sum(2, dtype=np.float64)
    rates_TB = spikes_TB / K
    active_T = np.count_nonzero(level_TBK.reshape(T, -1), axis=1).astype(np.float64)
    firing = Firing(B, B * K, spikes_TB.sum(1), active_T, rates_TB.sum(1), (rates_TB**2).sum(1))
    return spikes_TB.sum(0), firing


def _merged(a: Group, b: Group) -> Group:
    firing = {name: a.firing[name] + b.firing[name] for name in a.firing}
    return Group(a.shape, a.inputs + b.inputs, firing, a.products_LL + b.products_LL)


def text_batches(
    graph: Graph[ops.Tokens], tokens_NL: np.ndarray, batch_size: int = 64
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield token ids (N, L) without their padding, texts of one length at a time, with their places (B,) among the N.

    Padding is work that the batch causes, not the text. The published tower, which reads a fixed number of tokens,
    gets what it reads.
    """
    tokens_NL = check_tokens(graph.input, tokens_NL)
    if graph.input.exact:
        lengths_N = np.full(len(tokens_NL), graph.input.length)
    else:
        lengths_N = end_mask(tokens_NL, graph.input.eos_id).sum(1)
    for length in np.unique(lengths_N):
        places = np.flatnonzero(lengths_N == length)
        for i in range(0, len(places), batch_size):
            chosen = places[i : i + batch_size]
            yield tokens_NL[chosen, :length], chosen
