"""Training steps of both towers: forward, cross-entropy over fixed classes, backward, AdamW."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.gpu.measure import Measurement, Size, device, timed
from benchmarks.gpu.neuron import BACKENDS
from benchmarks.steps import training_step
from spikeclip.config import model_config
from spikeclip.towers import image_tower

BASE, TINY = "spikeclip-base", "spikeclip-tiny"
NEURONS = {"I-LIF": ("ilif", 1), "ReLU": ("relu", 1), "LIF T=4": ("lif", 4), "PLIF T=4": ("plif", 4)}
NEURONS |= {"quantised ReLU": ("quant_relu", 1), "I-LIF T=4": ("ilif", 4)}


def step(
    size: Size,
    preset: str,
    neuron: str,
    precision: str = "bf16",
    compiled: bool = False,
    peer: str | None = None,
) -> dict[str, Any]:
    """Time a step, also as `pictures_per_second`. peer: the backend of SpikingJelly, whose neurons the tower gets."""
    torch.manual_seed(0)
    kind, T = NEURONS[neuron]
    changes = {"image": dict(size.image[preset])} if preset in size.image else {}
    config = model_config(preset, neuron=kind, T=T, **changes)
    tower: Any = image_tower(config.image, config.neuron, config.embed_dim)
    if peer is not None:
        from benchmarks.peers import OnSpikingJelly

        tower = OnSpikingJelly(tower, every_step=False, backend=peer)
    tower = tower.to(device(), memory_format=torch.channels_last)
    if compiled:
        tower.compile(fullgraph=True, backend=size.backend)
    call = training_step(tower, config.embed_dim, precision)
    batch = size.batches[preset]
    images_BCHW = torch.randn(batch, 3, 32, 32, device=device()).to(memory_format=torch.channels_last)
    found = timed(lambda: call(images_BCHW), size)
    return {**found, "batch": batch, "pictures_per_second": batch / found["seconds"]}


def _ours(
    preset: str, neuron: str, precision: str = "bf16", compiled: bool = False
) -> dict[str, Measurement]:
    how = f"{precision}, {'compiled' if compiled else 'eager'}"
    run = partial(step, preset=preset, neuron=neuron, precision=precision, compiled=compiled)
    return {f"step: {preset} {neuron}, {how}": Measurement(run, compiles=compiled)}


def _theirs(backend: str, precision: str) -> dict[str, Measurement]:
    run = partial(step, preset=BASE, neuron="LIF T=4", precision=precision, peer=backend)
    name = f"step: {BASE} LIF T=4, {precision}, SpikingJelly {backend}"
    return {name: Measurement(run, {"SJ_LIF_CUDA_IMPLEMENTATION": backend})}


FIRST = {
    **_ours(BASE, "I-LIF", compiled=True),
    **_ours(BASE, "ReLU", compiled=True),
    **_ours(BASE, "LIF T=4", compiled=True),
    **_ours(BASE, "LIF T=4", "fp32", compiled=True),
    **{k: v for precision in ("fp32", "bf16") for k, v in _ours(BASE, "LIF T=4", precision).items()},
    **{k: v for b in BACKENDS for precision in ("fp32", "bf16") for k, v in _theirs(b, precision).items()},
}
REST = {
    **{k: v for neuron in NEURONS if neuron != "LIF T=4" for k, v in _ours(BASE, neuron).items()},
    **{k: v for neuron in NEURONS for k, v in _ours(TINY, neuron).items()},
    **{k: v for neuron in ("I-LIF", "ReLU") for k, v in _ours(TINY, neuron, compiled=True).items()},
    **{
        k: v
        for neuron in ("PLIF T=4", "quantised ReLU")
        for k, v in _ours(BASE, neuron, compiled=True).items()
    },
}
