"""Spiking neurons as pure functions of an input current, with hand-written backward passes.

Each neuron has a multi-step form (time first, any shape after it) and a single-step form with explicit
state for streaming. T calls of the single step equal one call of the multi-step form, bit for bit.
Membranes are fp32 whatever the dtype of the current; backward recomputes them from the current, the only
activation that is saved. The loops here are the specification; on a CPU they run as numba kernels, on CUDA as Triton
kernels where Triton is installed, and torch.compile takes those of the GPU and these.
"""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikeclip.config import Surrogate
from spikeclip.errors import missing_module, unknown
from spikeclip.neurons.surrogate import SURROGATES

_HAS_TRITON = find_spec("triton") is not None


def lif(
    x_TX: Tensor,
    *,
    tau: float | Tensor = 2.0,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = True,
    surrogate: Surrogate = "sigmoid",
    alpha: float = 4.0,
) -> Tensor:
    """Leaky integrate-and-fire neurons driven by a current over time.

        h[t] = v[t-1] + (x[t] - (v[t-1] - v_reset)) / tau
        s[t] = h[t] >= v_threshold
        v[t] = v_reset where s[t] else h[t]          (v_reset=None: v[t] = h[t] - v_threshold * s[t])

    x_TX: input current, time first, any shape after it. tau: time constant in steps, above 1; a tensor with
    one element is learned (PLIF, Fang et al., ICCV 2021). The membrane starts at v_reset (None: 0).
    Returns spikes (0 or 1), same shape and dtype. Raises `InputError` for an unknown surrogate.
    """
    spikes_TX, _ = _lif(x_TX, None, tau, v_threshold, v_reset, detach_reset, surrogate, alpha)
    return spikes_TX


def lif_step(
    x_X: Tensor,
    v_X: Tensor | None = None,
    *,
    tau: float | Tensor = 2.0,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = True,
    surrogate: Surrogate = "sigmoid",
    alpha: float = 4.0,
) -> tuple[Tensor, Tensor]:
    """One time step of `lif`.

    x_X: input current. v_X: fp32 membrane after the step before, None at the start.
    Returns (spikes, membrane), both of the shape of x_X.
    """
    settings = (tau, v_threshold, v_reset, detach_reset, surrogate, alpha)
    spikes_TX, v_X = _lif(x_X[None], v_X, *settings, streaming=True)
    return spikes_TX[0], v_X


def ilif(
    x_TX: Tensor,
    *,
    D: int = 4,
    range: float | Tensor = 2.0,
    tau: float = 2.0,
    detach_reset: bool = True,
) -> Tensor:
    """Integer leaky integrate-and-fire neurons (I-LIF, SpikeYOLO, ECCV 2024), normalised to [0, 1].

        u[t] = (1 - 1/tau) (u[t-1] - n[t-1]) + x[t] D / range
        n[t] = round(clip(u[t], 0, D))
        s[t] = n[t] / D

    Each n[t] stands for that many binary spikes in D sub-steps. The gradient of round(clip(.)) is 1 inside
    [0, D], 0 outside. At T=1 this is a quantiser with D + 1 levels.

    x_TX: input current, time first. range: current that reaches the highest level; a tensor with one element
    is learned. Returns s, multiples of 1/D, same shape and dtype as x_TX.
    """
    s_TX, _ = _ilif(x_TX, None, D, range, tau, detach_reset)
    return s_TX


def ilif_step(
    x_X: Tensor,
    r_X: Tensor | None = None,
    *,
    D: int = 4,
    range: float | Tensor = 2.0,
    tau: float = 2.0,
    detach_reset: bool = True,
) -> tuple[Tensor, Tensor]:
    """One time step of `ilif`.

    x_X: input current. r_X: fp32 membrane left after the spikes of the step before (u - n), None at the start.
    Returns (s, r), both of the shape of x_X.
    """
    s_TX, r_X = _ilif(x_X[None], r_X, D, range, tau, detach_reset, streaming=True)
    return s_TX[0], r_X


def _lif(
    x_TX: Tensor,
    v_X: Tensor | None,
    tau: float | Tensor,
    v_threshold: float,
    v_reset: float | None,
    detach_reset: bool,
    surrogate: str,
    alpha: float,
    streaming: bool = False,
) -> tuple[Tensor, Tensor]:
    if surrogate not in SURROGATES:
        raise unknown("surrogate", surrogate, SURROGATES)
    settings = (v_threshold, v_reset, detach_reset, surrogate, alpha)
    return _LIF.apply(x_TX, v_X, _factor(1 / tau, x_TX), *settings, streaming)  # type: ignore[return-value]


def _ilif(
    x_TX: Tensor,
    r_X: Tensor | None,
    D: int,
    range: float | Tensor,
    tau: float,
    detach_reset: bool,
    streaming: bool = False,
) -> tuple[Tensor, Tensor]:
    gain = _factor(D / range, x_TX)
    if torch.compiler.is_compiling() and len(x_TX) == 1 and r_X is None and not streaming:
        return _quantised(x_TX, gain, D), None  # type: ignore[return-value]
    return _ILIF.apply(x_TX, r_X, gain, D, 1 - 1 / tau, detach_reset, streaming)  # type: ignore[return-value]


def _quantised(x_X: Tensor, gain: float | Tensor, D: int) -> Tensor:
    """`ilif` of one time step as plain operations, which a compiler fuses with the BatchNorm before them."""
    u = (x_X.to(_membrane_dtype(x_X)) * gain).clamp(0, D)
    return ((u + (u.round() - u).detach()) / D).to(x_X.dtype)


def _membrane_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _factor(value: float | Tensor, x_TX: Tensor) -> float | Tensor:
    """A learned factor in the dtype of the membranes; a fixed one stays a number: no copy that a GPU waits for."""
    return value.to(_membrane_dtype(x_TX)) if isinstance(value, Tensor) else value


def _kernels(x_TX: Tensor) -> ModuleType | None:
    """The module that runs this current's loops; None for the loops of this one."""
    if x_TX.is_cuda and _HAS_TRITON and x_TX.dtype != torch.float64:
        from spikeclip.neurons import triton

        return triton
    if x_TX.is_cpu and x_TX.dtype in (torch.float32, torch.bfloat16) and not torch.compiler.is_compiling():
        try:
            from spikeclip.neurons import cpu
        except ModuleNotFoundError as error:
            raise missing_module(error) from error

        return cpu
    return None


def _keep(ctx: Any, x_TX: Tensor, state_X: Tensor | None, factor: float | Tensor) -> None:
    learned = isinstance(factor, Tensor)
    ctx.save_for_backward(x_TX, state_X, factor if learned else None)
    ctx.factor = None if learned else factor


def _kept(ctx: Any) -> tuple[Tensor, Tensor | None, float | Tensor]:
    x_TX, state_X, factor = ctx.saved_tensors
    return x_TX, state_X, ctx.factor if factor is None else factor


def _at_rest(x_TX: Tensor, v_reset: float | None) -> Tensor:
    return torch.full_like(x_TX[0], v_reset or 0.0, dtype=_membrane_dtype(x_TX))


def _charge(x: Tensor, v: Tensor, rate: float | Tensor, v_reset: float | None) -> Tensor:
    drive = x - v if not v_reset else x - (v - v_reset)
    return v + drive * rate


def _reset(h: Tensor, s: Tensor, v_threshold: float, v_reset: float | None) -> Tensor:
    if v_reset is None:
        return h - v_threshold * s
    return h * (1 - s) + v_reset * s if v_reset else h * (1 - s)


class _LIF(Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x_TX: Tensor,
        v_X: Tensor | None,
        rate: float | Tensor,
        v_threshold: float,
        v_reset: float | None,
        detach_reset: bool,
        surrogate: str,
        alpha: float,
        streaming: bool,
    ) -> tuple[Tensor, Tensor | None]:
        _keep(ctx, x_TX, v_X, rate)
        ctx.settings = (v_threshold, v_reset, detach_reset, surrogate, alpha)  # type: ignore[attr-defined]
        if (fast := _kernels(x_TX)) is not None:
            return fast.forward(fast.lif_forward, x_TX, v_X, rate, streaming, v_threshold, v_reset)
        v_X = _at_rest(x_TX, v_reset) if v_X is None else v_X
        s_TX = torch.empty_like(x_TX)  # not torch.stack, which would give up a channels-last layout
        for t, x in enumerate(x_TX.unbind()):
            h = _charge(x, v_X, rate, v_reset)
            s = (h >= v_threshold).to(h.dtype)
            v_X = _reset(h, s, v_threshold, v_reset)
            s_TX[t] = s
        return s_TX, v_X if streaming else None

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_s_TX: Tensor, grad_v_X: Tensor | None):  # type: ignore[override] # noqa: ANN001
        x_TX, v_X, rate = _kept(ctx)
        v_threshold, v_reset, detach_reset, surrogate, alpha = ctx.settings
        needs = ctx.needs_input_grad[1:3]
        if (fast := _kernels(x_TX)) is not None:
            gradients = (grad_s_TX, grad_v_X)
            results = fast.backward(fast.lif_backward, x_TX, v_X, rate, *gradients, needs, *ctx.settings)
            return *results, *[None] * 6
        v_X = _at_rest(x_TX, v_reset) if v_X is None else v_X
        before, charged = [], []
        for x in x_TX.unbind():
            h = _charge(x, v_X, rate, v_reset)
            before.append(v_X)
            charged.append(h)
            v_X = _reset(h, (h >= v_threshold).to(h.dtype), v_threshold, v_reset)
        grad_x_TX = torch.empty_like(x_TX)
        grad_rate = torch.zeros_like(rate) if needs[1] else None
        for t in range(len(x_TX) - 1, -1, -1):
            v, h = before[t], charged[t]
            derivative = SURROGATES[surrogate](h - v_threshold, alpha)
            s = (h >= v_threshold).to(h.dtype)
            kept = torch.ones_like(s) if v_reset is None else 1 - s
            if not detach_reset:
                kept = kept + (-v_threshold if v_reset is None else v_reset - h) * derivative
            grad_h = grad_s_TX[t] * derivative
            if grad_v_X is not None:
                grad_h = grad_h + grad_v_X * kept
            if grad_rate is not None:
                grad_rate = grad_rate + (grad_h * (x_TX[t] - (v - (v_reset or 0.0)))).sum()
            grad_x_TX[t] = grad_h * rate
            grad_v_X = grad_h * (1 - rate)
        return grad_x_TX, grad_v_X if needs[0] else None, grad_rate, *[None] * 6


def _integrate(x: Tensor, r: Tensor | None, gain: float | Tensor, decay: float) -> Tensor:
    dtype = _membrane_dtype(x)  # a number would not lift a bf16 current to fp32
    u = x * gain if x.dtype == dtype else x.to(dtype).mul_(gain)
    return u if r is None else u.add_(r, alpha=decay)


class _ILIF(Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x_TX: Tensor,
        r_X: Tensor | None,
        gain: float | Tensor,
        D: int,
        decay: float,
        detach_reset: bool,
        streaming: bool,
    ) -> tuple[Tensor, Tensor | None]:
        _keep(ctx, x_TX, r_X, gain)
        ctx.settings = (D, decay, detach_reset)  # type: ignore[attr-defined]
        if (fast := _kernels(x_TX)) is not None:
            return fast.forward(fast.ilif_forward, x_TX, r_X, gain, streaming, D, decay)
        s_TX = torch.empty_like(x_TX)
        last = len(x_TX) - 1
        for t, x in enumerate(x_TX.unbind()):
            u = _integrate(x, r_X, gain, decay)
            if streaming or t < last:
                n = u.clamp(0, D).round_()
                r_X = u - n
            else:
                n, r_X = u.clamp_(0, D).round_(), None
            s_TX[t] = n.div_(D)
        return s_TX, r_X

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_s_TX: Tensor, grad_r_X: Tensor | None):  # type: ignore[override] # noqa: ANN001
        x_TX, r_X, gain = _kept(ctx)
        D, decay, detach_reset = ctx.settings
        needs_r, needs_gain = needs = ctx.needs_input_grad[1:3]
        if (fast := _kernels(x_TX)) is not None:
            gradients = (grad_s_TX, grad_r_X)
            results = fast.backward(fast.ilif_backward, x_TX, r_X, gain, *gradients, needs, *ctx.settings)
            return *results, *[None] * 4
        inside = []
        last = len(x_TX) - 1
        for t, x in enumerate(x_TX.unbind()):
            u = _integrate(x, r_X, gain, decay)
            inside.append((u >= 0) & (u <= D))
            r_X = u - u.clamp(0, D).round_() if t < last else None
        grad_x_TX = torch.empty_like(x_TX)
        grad_gain = torch.zeros_like(gain) if needs_gain else None
        for t in range(last, -1, -1):
            grad_u = (grad_s_TX[t] * inside[t]).to(_membrane_dtype(x_TX)) / D
            if grad_r_X is not None:
                grad_u = grad_u + (grad_r_X if detach_reset else grad_r_X * ~inside[t])
            if grad_gain is not None:
                grad_gain = grad_gain + (grad_u * x_TX[t]).sum()
            grad_x_TX[t] = grad_u * gain
            grad_r_X = grad_u * decay if t or needs_r else None
        return grad_x_TX, grad_r_X, grad_gain, *[None] * 4
