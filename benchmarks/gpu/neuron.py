"""One neuron, forward and backward, against other people's and against the traffic of its tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu.measure import TIMES, Measurement, Size, device, timed
from spikeclip.neurons import ILIF, LIF, PLIF, functional

TENSORS = 5
"""Read or written at least: current and spikes, then current, gradient of the spikes and gradient of the current."""
BACKENDS = ("torch", "cupy", "triton", "cuda")
"""Of SpikingJelly; cupy is 0.0.0.0.14's, triton and cuda are 2's."""
KINDS = {"LIF": LIF, "PLIF": PLIF, "I-LIF": ILIF}


def bandwidth(size: Size) -> dict[str, Any]:
    """Return the `bytes_per_second` that a large copy reads and writes on this card."""
    from_N = torch.empty(size.copied, dtype=torch.uint8, device=device())
    to_N = torch.empty_like(from_N)
    found = timed(lambda: to_N.copy_(from_N), size)
    return {**found, "bytes_per_second": 2 * size.copied / found["seconds"]}


def ours(size: Size, kind: str, T: int, dtype: str = "float32") -> dict[str, Any]:
    """The neuron as a tower calls it."""
    return _timed(KINDS[kind]().to(device()), size, T, dtype)


def captured(size: Size, kind: str, T: int, dtype: str = "float32") -> dict[str, Any]:
    """The same as a CUDA graph: the kernels, without Python and the starting of each."""
    if not torch.cuda.is_available():
        raise ImportError("CUDA graphs need a GPU")
    neuron, (x_TX, grad_TX) = KINDS[kind]().to(device()), _inputs(size, T, dtype)

    def step() -> None:
        torch.autograd.grad(neuron(x_TX), [x_TX, *neuron.parameters()], grad_TX)

    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):  # the first calls compile, which a capture must not
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return {**timed(graph.replay, size), **_traffic(x_TX)}


def loop(size: Size, kind: str, T: int, compiled: bool = False) -> dict[str, Any]:
    """The PyTorch operations that specify the neuron, one by one or compiled."""
    neuron: Any = KINDS[kind]().to(device())

    def chosen(x_TX: Tensor) -> None:
        return None

    with mock.patch.object(functional, "_kernels", chosen):
        if compiled:
            neuron = torch.compile(neuron, fullgraph=True, backend=size.backend)
        return _timed(neuron, size, T, "float32")


def spikingjelly(size: Size, T: int, backend: str, dtype: str = "float32") -> dict[str, Any]:
    """Their LIF neuron, reset before every call."""
    from benchmarks.peers import lif_node

    node = lif_node(LIF(), backend).to(device())

    def run(x_TX: Tensor) -> Tensor:
        node.reset()
        return node(x_TX)

    return _timed(run, size, T, dtype)


def _inputs(size: Size, T: int, dtype: str) -> tuple[Tensor, Tensor]:
    random = torch.Generator(device()).manual_seed(0)
    x_TX, grad_TX = (
        torch.randn(T, size.neurons, generator=random, device=device()).to(getattr(torch, dtype))
        for _ in range(2)
    )
    return x_TX.requires_grad_(), grad_TX


def _timed(run: Callable[[Tensor], Tensor], size: Size, T: int, dtype: str) -> dict[str, Any]:
    x_TX, grad_TX = _inputs(size, T, dtype)
    learned = list(run.parameters()) if isinstance(run, torch.nn.Module) else []
    found = timed(lambda: torch.autograd.grad(run(x_TX), [x_TX, *learned], grad_TX), size)
    return {**found, **_traffic(x_TX)}


def _traffic(x_TX: Tensor) -> dict[str, Any]:
    return {"bytes": TENSORS * x_TX.numel() * x_TX.element_size()}


def _of(backend: str) -> dict[str, str]:
    """SpikingJelly 2 reads its choice when it is imported."""
    return {"SJ_LIF_CUDA_IMPLEMENTATION": backend}


FIRST = {
    "copy": Measurement(bandwidth),
    **{
        f"neuron: LIF T={T}, {name}": Measurement(partial(run, kind="LIF", T=T))
        for name, run in (("ours", ours), ("ours, CUDA graph", captured))
        for T in TIMES
    },
    **{
        f"neuron: LIF T={T}, SpikingJelly {backend}": Measurement(
            partial(spikingjelly, T=T, backend=backend), _of(backend)
        )
        for backend in BACKENDS
        for T in TIMES
    },
}
REST = {
    **{
        f"neuron: {kind} T={T}, {dtype}, ours": Measurement(partial(ours, kind=kind, T=T, dtype=dtype))
        for kind, dtype in (
            ("LIF", "bfloat16"),
            ("I-LIF", "float32"),
            ("I-LIF", "bfloat16"),
            ("PLIF", "float32"),
        )
        for T in TIMES
    },
    **{f"neuron: LIF T={T}, PyTorch's loop": Measurement(partial(loop, kind="LIF", T=T)) for T in TIMES},
    **{
        f"neuron: LIF T={T}, torch.compile": Measurement(
            partial(loop, kind="LIF", T=T, compiled=True), compiles=True
        )
        for T in TIMES
    },
}
