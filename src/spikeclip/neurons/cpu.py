"""The neurons on a CPU: what `functional` runs there in place of its PyTorch loops, which are the specification.

Any dense layout of a time step will do, and time may have any stride; results take the layout of the current, and
what does not have it is copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeclip.neurons.cpu_kernels import BLOCK, ilif_backward, ilif_forward, lif_backward, lif_forward
from spikeclip.neurons.layout import in_order, result_like, state_in_order
from spikeclip.neurons.surrogate import SURROGATES

__all__ = ["BLOCK", "backward", "forward", "ilif_backward", "ilif_forward", "lif_backward", "lif_forward"]
_NOTHING = np.empty(0, np.float32)


def forward(
    kernel: Callable,
    x_TX: Tensor,
    state_X: Tensor | None,
    factor: float | Tensor,
    streaming: bool,
    *settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """Run `lif_forward` or `ilif_forward`: (spikes, state after the last step if `streaming`)."""
    s_TX = result_like(x_TX)
    x_TX, state_X = in_order(x_TX, s_TX), state_in_order(state_X, s_TX)
    end_X = torch.empty_like(s_TX[0], dtype=torch.float32) if streaming else None
    arrays = (*_steps(x_TX), _flat(state_X), np.float32(float(factor)), _flat(s_TX), _flat(end_X))
    _in_threads(kernel, s_TX, *arrays, *_numbers(settings))
    return s_TX, end_X


def backward(
    kernel: Callable,
    x_TX: Tensor,
    state_X: Tensor | None,
    factor: float | Tensor,
    grad_s_TX: Tensor,
    grad_end_X: Tensor | None,
    needs: tuple[bool, bool],
    *settings: Any,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Run `lif_backward` or `ilif_backward`: gradients of current and, where `needs` is true, of state and factor."""
    grad_x_TX = result_like(x_TX)
    x_TX, grad_s_TX = in_order(x_TX, grad_x_TX), in_order(grad_s_TX, grad_x_TX)
    state_X, grad_end_X = (state_in_order(y_X, grad_x_TX) for y_X in (state_X, grad_end_X))
    grad_start_X = torch.empty_like(grad_x_TX[0], dtype=torch.float32) if needs[0] else None
    arrays = (*_steps(x_TX), _flat(state_X), np.float32(float(factor)), *_steps(grad_s_TX), _flat(grad_end_X))
    results = (_flat(grad_x_TX), _flat(grad_start_X), needs[1])
    grad_factor = _in_threads(kernel, grad_x_TX, *arrays, *results, *_numbers(settings))
    made = torch.full_like(factor, grad_factor) if isinstance(factor, Tensor) and needs[1] else None
    return grad_x_TX, grad_start_X, made


def _flat(x_X: Tensor | None) -> np.ndarray:
    """Return the elements of a dense tensor in memory order, without a copy."""
    if x_X is None:
        return _NOTHING
    return _numpy(x_X.detach().as_strided((x_X.numel(),), (1,)))


def _steps(x_TX: Tensor) -> tuple[np.ndarray, int]:
    """Return the memory from the first element of the first step to the last of the last one, and the stride."""
    N = x_TX[0].numel()
    stride = x_TX.stride(0) if N else 0
    return _numpy(x_TX.detach().as_strided(((len(x_TX) - 1) * stride + N,), (1,))), stride


def _numpy(x_N: Tensor) -> np.ndarray:
    return x_N.view(torch.uint16).numpy() if x_N.dtype == torch.bfloat16 else x_N.numpy()


def _numbers(settings: tuple) -> list:
    """Return settings as the kernels take them: numbers in fp32, `v_reset=None` as NaN, a surrogate by its place."""
    names = list(SURROGATES)
    numbers = [names.index(x) if isinstance(x, str) else math.nan if x is None else x for x in settings]
    return [x if isinstance(x, bool) else np.float32(x) for x in numbers]


@cache
def _threads() -> ThreadPoolExecutor:
    # Not numba's threads: they and PyTorch's would spin on each other's cores.
    return ThreadPoolExecutor(thread_name_prefix="spikeclip-neurons")


def _in_threads(kernel: Callable, result_TX: Tensor, *arguments: Any) -> float:
    """Run a kernel over all neurons on PyTorch's number of threads; return the sum of what it returns."""
    T, N = len(result_TX), result_TX[0].numel()
    blocks = -(-N // BLOCK)
    threads = max(1, min(torch.get_num_threads(), blocks * T // 256))
    ends = [min(blocks * i // threads * BLOCK, N) for i in range(threads + 1)]
    shares = [(*arguments, T, N, *ends[i : i + 2]) for i in range(threads)]
    others = [_threads().submit(kernel, *share) for share in shares[1:]]
    first = kernel(*shares[0])
    return first + sum(other.result() for other in others)
