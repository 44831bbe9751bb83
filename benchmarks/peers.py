"""Our towers with SpikingJelly's neurons: what the published design does, with the weights of ours."""

from __future__ import annotations

import os
from importlib.util import find_spec
from inspect import signature
from typing import Any

from torch import Tensor, nn

from spikeclip.errors import InputError
from spikeclip.neurons import LIF, PLIF
from spikeclip.neurons.module import Neuron
from spikeclip.towers.image import Spikingformer
from spikeclip.towers.norm import ConvBN
from spikeclip.towers.recompute import keep_activations


class OnSpikingJelly(nn.Module):
    """A tower whose LIF neurons are SpikingJelly's multi-step `LIFNode`, reset before every call.

    tower: changed in place. every_step: also recompute the first convolution at every time step, as the
    published network does. backend: see `lif_node`. Raises `InputError` for neurons that have no counterpart there.
    """

    def __init__(self, tower: nn.Module, every_step: bool, backend: str = "torch") -> None:
        super().__init__()
        from spikingjelly.activation_based import functional

        self.reset = functional.reset_net
        _replace(tower, backend)
        if every_step and isinstance(tower, Spikingformer):
            tower.stem.convs[0] = _EveryStep(tower.stem.convs[0], tower.stem.T)  # type: ignore[arg-type]
        self.tower = tower

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.reset(self.tower)
        with keep_activations():  # a node that ran twice would go on from its last membrane
            return self.tower(x_BCHW)


class _EveryStep(nn.Module):
    """Runs a convolution on T copies of a picture that does not change."""

    def __init__(self, layer: ConvBN, T: int) -> None:
        super().__init__()
        self.layer, self.T = layer, T

    def convolve(self, x_1BCHW: Tensor) -> Tensor:
        return self.layer.convolve(x_1BCHW.repeat(self.T, 1, 1, 1, 1))

    def normalize(self, x_TBCHW: Tensor) -> Tensor:
        return self.layer.normalize(x_TBCHW)


def _replace(module: nn.Module, backend: str) -> None:
    for name, child in module.named_children():
        if isinstance(child, Neuron):
            setattr(module, name, lif_node(child, backend))
        else:
            _replace(child, backend)


def lif_node(neuron: Neuron, backend: str = "torch") -> Any:
    """Return SpikingJelly's counterpart of a LIF neuron, for all time steps of a call.

    backend: torch or cupy in version 0.0.0.0.14. Version 2 has torch, triton and cuda, and takes what the variable
    SJ_LIF_CUDA_IMPLEMENTATION says on a GPU. Raises `InputError` for another neuron or backend.
    """
    from spikingjelly.activation_based import surrogate
    from spikingjelly.activation_based.neuron import LIFNode

    surrogates = {"sigmoid": surrogate.Sigmoid, "atan": surrogate.ATan}
    if not isinstance(neuron, LIF) or isinstance(neuron, PLIF) or neuron.surrogate not in surrogates:
        raise InputError(f"SpikingJelly has no counterpart of {type(neuron).__name__} here")
    chosen: dict[str, Any] = {"backend": backend} if "backend" in signature(LIFNode).parameters else {}
    known = ("torch", "cupy") if chosen else ("torch", "triton", "cuda")
    if backend not in known:
        raise InputError(f"the SpikingJelly installed has the backends {', '.join(known)}, not {backend}")
    if backend not in ("torch", os.environ.get("SJ_LIF_CUDA_IMPLEMENTATION")) and not chosen:
        raise InputError(f"set SJ_LIF_CUDA_IMPLEMENTATION={backend} before SpikingJelly is imported")
    if backend == "cupy" and find_spec("cupy") is None:
        raise InputError("CuPy is not installed")
    return LIFNode(
        neuron.tau,
        decay_input=True,
        v_threshold=neuron.v_threshold,
        v_reset=neuron.v_reset,  # type: ignore[arg-type]  # None is its soft reset
        surrogate_function=surrogates[neuron.surrogate](alpha=neuron.alpha),
        detach_reset=neuron.detach_reset,
        step_mode="m",
        **chosen,
    )
