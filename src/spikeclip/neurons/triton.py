"""The neurons on a GPU: what `functional` runs there in place of its PyTorch loops, which are the specification.

Any dense layout of a time step will do, and time may have any stride; results take the layout of the current, and
what does not have it is copied. The launches are custom operators, which torch.compile takes as they are.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import triton
from torch import Tensor
from torch.library import custom_op

from spikeclip.neurons import triton_kernels as kernels
from spikeclip.neurons.layout import in_order, result_like, state_in_order

BLOCK = 1024
"""Neurons of one program."""
HELD = 16
"""Most time steps whose membranes a program of backward holds in registers; longer currents go in parts."""


def forward(
    operator: Callable,
    x_TX: Tensor,
    state_X: Tensor | None,
    factor: float | Tensor,
    streaming: bool,
    *settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """Run `lif_forward` or `ilif_forward`: (spikes, state after the last step if `streaming`)."""
    operator = operator if torch.compiler.is_compiling() else operator._init_fn  # 13 us less of each call
    s_TX, end_X = operator(x_TX, state_X, *_apart(factor), streaming, *settings)
    return s_TX, end_X if streaming else None


def backward(
    operator: Callable,
    x_TX: Tensor,
    state_X: Tensor | None,
    factor: float | Tensor,
    grad_s_TX: Tensor,
    grad_end_X: Tensor | None,
    needs: tuple[bool, bool],
    *settings: Any,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Run `lif_backward` or `ilif_backward`: gradients of current and, where `needs` is true, of state and factor."""
    operator = operator if torch.compiler.is_compiling() else operator._init_fn
    gradients = operator(x_TX, state_X, *_apart(factor), grad_s_TX, grad_end_X, *needs, *settings)
    grad_x_TX, grad_start_X, grad_factor = gradients
    return grad_x_TX, grad_start_X if needs[0] else None, grad_factor if needs[1] else None


def _apart(factor: float | Tensor) -> tuple[Tensor | None, float]:
    return (factor, 0.0) if isinstance(factor, Tensor) else (None, factor)


@custom_op("spikeclip::lif_forward", mutates_args=())
def lif_forward(
    x_TX: Tensor,
    v_X: Tensor | None,
    learned: Tensor | None,
    rate: float,
    streaming: bool,
    v_threshold: float,
    v_reset: float | None,
) -> tuple[Tensor, Tensor]:
    return _forward(kernels.lif_forward, x_TX, v_X, learned, rate, streaming, v_threshold, v_reset)


@custom_op("spikeclip::lif_backward", mutates_args=())
def lif_backward(
    x_TX: Tensor,
    v_X: Tensor | None,
    learned: Tensor | None,
    rate: float,
    grad_s_TX: Tensor,
    grad_v_X: Tensor | None,
    needs_v: bool,
    needs_rate: bool,
    v_threshold: float,
    v_reset: float | None,
    detach_reset: bool,
    surrogate: str,
    alpha: float,
) -> tuple[Tensor, Tensor, Tensor]:
    settings = (v_threshold, v_reset, detach_reset, surrogate, alpha)
    given = (x_TX, v_X, learned, rate, grad_s_TX, grad_v_X)
    return _backward(kernels.lif_backward, *given, needs_v, needs_rate, *settings)


@custom_op("spikeclip::ilif_forward", mutates_args=())
def ilif_forward(
    x_TX: Tensor,
    r_X: Tensor | None,
    learned: Tensor | None,
    gain: float,
    streaming: bool,
    D: int,
    decay: float,
) -> tuple[Tensor, Tensor]:
    return _forward(kernels.ilif_forward, x_TX, r_X, learned, gain, streaming, D, decay)


@custom_op("spikeclip::ilif_backward", mutates_args=())
def ilif_backward(
    x_TX: Tensor,
    r_X: Tensor | None,
    learned: Tensor | None,
    gain: float,
    grad_s_TX: Tensor,
    grad_r_X: Tensor | None,
    needs_r: bool,
    needs_gain: bool,
    D: int,
    decay: float,
    detach_reset: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    given = (x_TX, r_X, learned, gain, grad_s_TX, grad_r_X)
    return _backward(kernels.ilif_backward, *given, needs_r, needs_gain, D, decay, detach_reset)


def _forward(
    kernel: Any,
    x_TX: Tensor,
    state_X: Tensor | None,
    learned: Tensor | None,
    number: float,
    streaming: bool,
    *settings: Any,
) -> tuple[Tensor, Tensor]:
    """Allocate the results and, with a kernel, fill them; a result that is not needed is empty."""
    s_TX = result_like(x_TX)
    end_X = torch.empty_like(s_TX[0] if streaming else s_TX[:0], dtype=torch.float32)
    if kernel:
        x_TX, state_X = in_order(x_TX, s_TX), state_in_order(state_X, s_TX)
        factor, results = number if learned is None else learned, (s_TX, end_X if streaming else None)
        given = (x_TX, state_X, factor, *results, x_TX.stride(0), *settings)
        _launch(kernel, BLOCK, s_TX, *given, LEARNED=learned is not None)
    return s_TX, end_X


def _backward(
    kernel: Any,
    x_TX: Tensor,
    state_X: Tensor | None,
    learned: Tensor | None,
    number: float,
    grad_s_TX: Tensor,
    grad_end_X: Tensor | None,
    needs_state: bool,
    needs_factor: bool,
    *settings: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `_forward`. Each program adds up the factor's gradient of its neurons, always in the same order."""
    grad_x_TX = result_like(x_TX)
    grad_start_X = torch.empty_like(grad_x_TX[0] if needs_state else grad_x_TX[:0], dtype=torch.float32)
    grad_factor = x_TX.new_empty(0) if learned is None else torch.empty_like(learned)
    if kernel:
        x_TX, grad_s_TX = in_order(x_TX, grad_x_TX), in_order(grad_s_TX, grad_x_TX)
        state_X, grad_end_X = (state_in_order(y_X, grad_x_TX) for y_X in (state_X, grad_end_X))
        held, block = held_steps(len(x_TX))
        parts = x_TX.new_empty(_programs(x_TX, block), dtype=torch.float32) if needs_factor else None
        gradients = (grad_s_TX[-1], grad_end_X, grad_x_TX[-1], grad_start_X if needs_state else None, parts)
        factor, strides = number if learned is None else learned, (x_TX.stride(0), grad_s_TX.stride(0))
        given = (x_TX, state_X, factor, *gradients, *strides, *settings)
        _launch(kernel, block, grad_x_TX, *given, LEARNED=learned is not None, HELD=held)
        if parts is not None:
            grad_factor.fill_(parts.sum())
    return grad_x_TX, grad_start_X, grad_factor


def held_steps(T: int) -> tuple[int, int]:
    """Return how many time steps a program of backward holds, a divisor of T, and of how many neurons."""
    held = max(steps for steps in range(1, HELD + 1) if T % steps == 0)
    return held, min(BLOCK, 4 * BLOCK // triton.next_power_of_2(held))


for _operator, _make in [
    (lif_forward, _forward),
    (lif_backward, _backward),
    (ilif_forward, _forward),
    (ilif_backward, _backward),
]:
    _operator.register_fake(partial(_make, None))


def _programs(x_TX: Tensor, block: int) -> int:
    return triton.cdiv(x_TX[0].numel(), block)


def _launch(kernel: Any, block: int, result_TX: Tensor, *arguments: Any, **constants: Any) -> None:
    N = result_TX[0].numel()
    with torch.cuda.device_of(result_TX):
        # A product is rounded before it is added, as in PyTorch: the same spikes there, here and in backward.
        kernel[(_programs(result_TX, block),)](
            *arguments, T=len(result_TX), N=N, BLOCK=block, **constants, enable_fp_fusion=False
        )
