"""Image towers with random weights that fire as wished: for questions of speed, which needs events and no training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.plain import PlainTower
from benchmarks.prepare import export_twin, normalized, write_network
from spikeclip import create_model
from spikeclip.data.sources import load_pictures
from spikeclip.encode.student import Student
from spikeclip.evaluate.rates import mean_rates
from spikeclip.model import SpikeCLIP
from spikeclip.neurons import ILIF, LIF, Neuron
from spikeclip.towers.norm import BatchNorm

TOWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "demo": ("spikeclip-tiny", {"image": {"widths": [32, 64, 128]}}),
    "tiny": ("spikeclip-tiny", {}),
    "base": ("spikeclip-base", {}),
}
"""Preset and changes, by a short name."""
FITTED, CALIBRATION = 64, 256
"""Test pictures that set statistics and firing, training pictures that set the ranges of the int8 twin."""
TWICE = 1 / 3
"""Share of the active I-LIF neurons that fire more than once. Trained networks have 1.4 to 1.5 spikes for each."""


def random_model(preset: str, **changes: Any) -> SpikeCLIP:
    """Return a model with the random weights of seed 0, and as small a text tower as there can be.

    Filters that start as the identity are random too: they would hand on whole numbers, which no threshold parts.
    """
    torch.manual_seed(0)
    model = create_model(preset, text={"vocab_size": 8, "eos_id": 7}, **changes)
    for weight in model.image.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight)
    return model


def write_dense(tower: str, density: float, data: str, folder: Path) -> float:
    """Write an I-LIF tower of which a share `density` of the activations is not zero; returns what share is not."""
    preset, changes = TOWERS[tower]
    model = random_model(preset, neuron="ilif", T=1, D=4, **changes)
    pictures = load_pictures(data, "test", model.config.image.format, limit=FITTED)
    images_NHWC = normalized(model.config.image, pictures.images)
    fit_density(model, nchw(images_NHWC), density)
    write_network(model, images_NHWC, folder)
    spikes = mean_rates(Student(model), pictures)
    assert spikes is not None
    return spikes["mean_density"]


def write_twin(tower: str, data: str, batches: list[int], folder: Path) -> None:
    """Write the ReLU twin of a tower and its exports, see `prepare.export_twin`."""
    preset, changes = TOWERS[tower]
    model = random_model(preset, neuron="relu", T=1, **changes)
    pictures = load_pictures(data, "train", model.config.image.format, limit=CALIBRATION)
    images_NHWC = normalized(model.config.image, pictures.images)
    with _statistics_of(model):
        model.image(nchw(images_NHWC[:FITTED]))
    write_network(model, images_NHWC[:FITTED], folder)
    for batch in batches:
        export_twin(PlainTower(model.image).eval(), images_NHWC, batch, folder)  # type: ignore[arg-type]


def fit_density(model: SpikeCLIP, images_BCHW: Tensor, density: float) -> None:
    """Let `density` of every I-LIF layer's neurons fire, `TWICE` of them more than once, by shift and range.

    The BatchNorm before a neuron shifts its currents, as a regulariser does in training: a range alone lets no more
    than the positive half of them fire. Neurons without one (whitened pixels, attention) are fitted by their range.
    """
    before: list[BatchNorm] = []

    def normalize(module: nn.Module, _inputs: Any, _output: Tensor) -> None:
        assert isinstance(module, BatchNorm)
        before[:] = [module]

    def fit(neuron: Neuron, current: Tensor) -> None:
        assert isinstance(neuron, ILIF)
        once, twice = np.quantile(current.numpy(), [1 - density, 1 - TWICE * density])
        if before:
            step = max(twice - once, 1e-3)
            shift = step / 2 - once
            before.pop().bias += shift
            current += shift  # in place: a residual stream is shifted for its later readers too
        else:
            step = max(2.001 * once, (twice - once) / 4, 1e-3)  # half a step rounds to none
        neuron.range = float(neuron.D * step)

    handles = [
        module.register_forward_hook(normalize)
        for module in model.image.modules()
        if isinstance(module, BatchNorm)
    ]
    with _statistics_of(model), _fitted(model, fit):
        model.image(images_BCHW)
    for handle in handles:
        handle.remove()


def fit_rate(model: SpikeCLIP, images_BCHW: Tensor, rate: float) -> None:
    """Give every LIF neuron a threshold at which its layer fires `rate` spikes per neuron and time step.

    Layers of small integer currents (attention) can only come near.
    """

    def fit(neuron: Neuron, current: Tensor) -> None:
        assert isinstance(neuron, LIF)
        low, high = 1e-3, max(current.amax().item(), 1e-3)
        for _ in range(20):
            neuron.v_threshold = (low + high) / 2
            if neuron.forward(current).mean().item() > rate:  # not neuron(...), which would call this hook
                low = neuron.v_threshold
            else:
                high = neuron.v_threshold
        neuron.v_threshold = high

    with _statistics_of(model), _fitted(model, fit):
        model.image(images_BCHW)


def nchw(images_NHWC: np.ndarray) -> Tensor:
    """Return pictures as a tower reads them."""
    return torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)


@contextmanager
def _statistics_of(model: SpikeCLIP) -> Iterator[None]:
    """Let BatchNorm take the statistics of the batch that runs inside the `with` block."""
    for module in model.image.modules():
        if isinstance(module, BatchNorm):
            module.momentum = 1.0
    model.image.train()
    with torch.no_grad():
        yield
    model.eval()


@contextmanager
def _fitted(model: SpikeCLIP, fit: Callable[[Neuron, Tensor], None]) -> Iterator[None]:
    """Call `fit` with every neuron and its currents before it runs inside the `with` block."""
    handles = [
        module.register_forward_pre_hook(lambda neuron, inputs: fit(neuron, inputs[0]))  # type: ignore[arg-type]
        for module in model.image.modules()
        if isinstance(module, Neuron)
    ]
    yield
    for handle in handles:
        handle.remove()
