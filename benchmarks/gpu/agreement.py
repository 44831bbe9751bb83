"""The Triton neurons against the CPU path: spikes that differ, and the largest error of a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu.measure import SMALL, Measurement, Size, device
from spikeclip.neurons import functional

STEPS = range(1, 17)
RESETS = (0.0, None)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

Neuron = Callable[[Tensor, Tensor], Tensor]
"""A current (T, N) and a learned number, the time constant or the range -> spikes (T, N)."""
Case = tuple[torch.dtype, int, Neuron]


def _lif(x_TX: Tensor, tau: Tensor, learned: bool, **settings: Any) -> Tensor:
    return functional.lif(x_TX, tau=tau if learned else tau.item(), **settings)


def _ilif(x_TX: Tensor, range: Tensor, learned: bool, **settings: Any) -> Tensor:
    return functional.ilif(x_TX, range=range if learned else range.item(), **settings)


def _lif_cases(size: Size, learned: bool) -> Iterator[Case]:
    steps, run = _steps(size), partial(_lif, learned=learned)
    yield from ((torch.float32, T, run) for T in steps)
    for dtype in DTYPES:
        yield from ((dtype, T, run) for T in (steps[0], steps[-1]) if dtype != torch.float32)
        for v_reset in RESETS:
            for surrogate in functional.SURROGATES:
                yield dtype, 4, partial(run, v_reset=v_reset, surrogate=surrogate)  # type: ignore[arg-type]
    yield torch.float32, 4, partial(run, detach_reset=False)


def _ilif_cases(size: Size, learned: bool) -> Iterator[Case]:
    run = partial(_ilif, learned=learned)
    yield from ((dtype, T, run) for dtype in DTYPES for T in _steps(size))
    yield torch.float32, 4, partial(run, detach_reset=False)


def _steps(size: Size) -> list[int]:
    return [1, 4] if size == SMALL else list(STEPS)


def check(size: Size, cases: Callable[..., Iterator[Case]], learned: bool) -> dict[str, Any]:
    """Return how many `spikes` were compared, how many `differ`, and the largest `gradient_error` of each dtype.

    An error is a share of the largest gradient of its case.
    """
    spikes = differ = compared = 0
    errors = {str(dtype).removeprefix("torch."): 0.0 for dtype in DTYPES}
    for dtype, T, neuron in cases(size, learned):
        random = torch.Generator().manual_seed(T)
        x_TX = torch.randn(T, size.checked, generator=random).mul(2).to(dtype)
        weights_TX = torch.randn(T, size.checked, generator=random).to(dtype)
        (expected_TX, *expected), (found_TX, *found) = (
            _run(neuron, x_TX.to(where), weights_TX.to(where), kernels)
            for where, kernels in ((torch.device("cpu"), nullcontext()), (device(), _triton()))
        )
        compared += 1
        spikes += found_TX.count_nonzero().item()
        differ += (found_TX != expected_TX).sum().item()
        for a, b in zip(found, expected, strict=True):
            error = (a - b).abs().max() / b.abs().max().clamp(min=1e-30)
            name = str(dtype).removeprefix("torch.")
            errors[name] = max(errors[name], error.item())
    return {"cases": compared, "spikes": spikes, "differ": differ, "gradient_error": errors}


def _run(neuron: Neuron, x_TX: Tensor, weights_TX: Tensor, kernels: AbstractContextManager) -> list[Tensor]:
    x_TX, learned = x_TX.clone().requires_grad_(), torch.tensor(2.5, device=x_TX.device, requires_grad=True)
    with kernels:
        s_TX = neuron(x_TX, learned)
        s_TX.backward(weights_TX)
    gradients = [x_TX.grad] if learned.grad is None else [x_TX.grad, learned.grad]
    return [y.detach().double().cpu() for y in (s_TX, *gradients) if y is not None]


def _triton() -> AbstractContextManager:
    """Run the Triton kernels, which is what happens on a GPU anyway, and elsewhere is their interpreter."""
    from spikeclip.neurons import triton

    def chosen(x_TX: Tensor) -> ModuleType:
        return triton

    return mock.patch.object(functional, "_kernels", chosen)


FIRST = {
    f"agreement: {name}": Measurement(partial(check, cases=cases, learned=learned))
    for name, cases, learned in (
        ("LIF", _lif_cases, False),
        ("PLIF", _lif_cases, True),
        ("I-LIF", _ilif_cases, False),
        ("I-LIF, learned range", _ilif_cases, True),
    )
}
REST: dict[str, Measurement] = {}
