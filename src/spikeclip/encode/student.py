"""A spiking network in PyTorch as an encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeclip.config import ImageFormat, Taught, to_dict
from spikeclip.data.transforms import normalize
from spikeclip.encode.encoder import text_list
from spikeclip.encode.pixels import Picture, as_pixels
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.model import SpikeCLIP
from spikeclip.neurons import density, mean_spikes, record
from spikeclip.neurons.module import Neuron, ReLU
from spikeclip.towers.weights import weights_hash


class Student:
    """A `SpikeCLIP` behind the face of an `Encoder`; the network stays where and as it is.

    batch_size: inputs that run at a time. bf16: matrix products in bfloat16.
    """

    def __init__(self, model: SpikeCLIP, batch_size: int = 256, bf16: bool = False) -> None:
        self.model, self.batch_size, self.bf16 = model, batch_size, bf16

    @property
    def name(self) -> str:
        return self.model.config.name

    @property
    def dim(self) -> int:
        return self.model.config.embed_dim

    @property
    def image_format(self) -> ImageFormat:
        return self.model.config.image.format

    @property
    def logit_scale(self) -> float:
        return float(self.model.logit_scale.detach())

    @property
    def fingerprint(self) -> str:
        return f"{self.model.fingerprint}-bf16" if self.bf16 else self.model.fingerprint

    @property
    def taught(self) -> Taught:
        return self.model.taught

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {
            "config": to_dict(self.model.config),
            "weights": weights_hash(self.model),
            "precision": "bf16" if self.bf16 else "fp32",
        }

    def encode_image(
        self, images: np.ndarray | Sequence[Picture], spikes: SpikeCounts | None = None
    ) -> np.ndarray:
        """Embed pictures -> (N, dim) float32; see `Encoder.encode_image`."""
        images_NHWC = as_pixels(images, self.image_format)
        device, rows = self.model.log_scale.device, []
        with _inference(self.model), torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            for i in range(0, len(images_NHWC), self.batch_size):
                # Of an array that cannot be written PyTorch warns.
                batch_NHWC = np.require(images_NHWC[i : i + self.batch_size], requirements="W")
                batch = torch.from_numpy(batch_NHWC).to(device)
                x = normalize(batch, *self.model.config.image.normalization)
                with _counted(self.model, spikes):
                    rows.append(self.model.encode_image(x, normalize=True).cpu())
        return torch.cat(rows).numpy() if rows else np.empty((0, self.dim), np.float32)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim) float32; raises `InputError` where the model has no tokenizer."""
        texts, device, rows = text_list(texts), self.model.log_scale.device, []
        with _inference(self.model):
            for i in range(0, len(texts), self.batch_size):
                tokens_BL = self.model.tokenize(texts[i : i + self.batch_size]).to(device)
                rows.append(self.model.encode_text(tokens_BL, normalize=True).cpu())
        return torch.cat(rows).numpy() if rows else np.empty((0, self.dim), np.float32)


@contextmanager
def _counted(model: SpikeCLIP, spikes: SpikeCounts | None) -> Iterator[None]:
    """Count what the neurons of `model` emit inside the `with` block, which runs the image tower once."""
    if spikes is None:
        yield
        return
    with record(model, _count) as layers:
        yield
    for name, counts_3 in layers.items():
        spikes.add(name, *counts_3.tolist())


def _count(neuron: Neuron, s_TX: Tensor) -> Tensor:
    """Spikes, activations that are not zero, and places, float64."""
    rate = s_TX.new_tensor(torch.nan) if isinstance(neuron, ReLU) else mean_spikes(neuron, s_TX)
    places = s_TX.numel()
    shares_2 = torch.stack([rate.detach().double(), density(neuron, s_TX).double()])
    return torch.cat([shares_2 * places, shares_2.new_tensor([places])]).cpu()


@contextmanager
def _inference(model: SpikeCLIP) -> Iterator[None]:
    """Evaluation mode without gradients; every module returns to the mode it had."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode
