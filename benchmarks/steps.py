"""Who takes part in `benchmarks.training`: towers with random weights, each a function that takes one step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.contestants import Contestant, Embed, Job

if TYPE_CHECKING:
    from torch import Tensor, nn

PEER = "SpikingJelly LIF T=4, fp32"
CLASSES = 10


def step(
    job: Job,
    neuron: str,
    T: int,
    precision: str = "fp32",
    compiled: bool = False,
    peer: bool = False,
) -> tuple[Embed, dict[str, Any]]:
    """Build a tower with random weights; a call is forward, cross-entropy over classes, backward and AdamW."""
    import torch

    from benchmarks.peers import OnSpikingJelly
    from spikeclip.config import read_config
    from spikeclip.towers import image_tower

    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    config = read_config(Path(job.folder))
    settings = dataclasses.replace(config.neuron, kind=neuron, T=T)
    tower: Any = image_tower(config.image, settings, config.embed_dim)
    tower = (OnSpikingJelly(tower, every_step=False) if peer else tower).train()
    tower = tower.to(memory_format=torch.channels_last)
    if compiled:
        tower.compile(fullgraph=True)
    train = training_step(tower, config.embed_dim, precision)

    def call(images_BHWC: np.ndarray) -> np.ndarray:
        return train(torch.from_numpy(images_BHWC).permute(0, 3, 1, 2)).numpy()

    return call, {}


def training_step(tower: nn.Module, embed_dim: int, precision: str) -> Callable[[Tensor], Tensor]:
    """Return what takes a step with pictures (B, 3, H, W) on the tower's device, and returns its loss there."""
    import torch
    import torch.nn.functional as F

    from spikeclip.config import OptimizerConfig
    from spikeclip.train.optimizer import make_optimizers

    device = next(tower.parameters()).device
    optimizers = make_optimizers(tower.train(), OptimizerConfig())
    classes_KD = F.normalize(torch.randn(CLASSES, embed_dim, device=device), dim=-1)

    def call(images_BCHW: Tensor) -> Tensor:
        labels_B = torch.arange(len(images_BCHW), device=device) % CLASSES
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            made_BD = F.normalize(tower(images_BCHW).float(), dim=-1)
        loss = F.cross_entropy(30 * made_BD @ classes_KD.T, labels_B)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    return call


_LIF, _ILIF = partial(step, neuron="lif", T=4), partial(step, neuron="ilif", T=1)
CONTESTANTS: dict[str, Contestant] = {
    PEER: Contestant("lif", partial(_LIF, peer=True)),
    "SpikingJelly LIF T=4, bf16": Contestant("lif", partial(_LIF, peer=True, precision="bf16")),
    "LIF T=4, fp32": Contestant("lif", _LIF),
    "LIF T=4, bf16": Contestant("lif", partial(_LIF, precision="bf16")),
    "LIF T=4, bf16 compiled": Contestant("lif", partial(_LIF, precision="bf16", compiled=True)),
    "I-LIF T=1, fp32": Contestant("ilif", _ILIF),
    "I-LIF T=1, bf16": Contestant("ilif", partial(_ILIF, precision="bf16")),
    "I-LIF T=1, bf16 compiled": Contestant("ilif", partial(_ILIF, precision="bf16", compiled=True)),
}
