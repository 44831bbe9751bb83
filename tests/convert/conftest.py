import numpy as np
import pytest
import torch

from spikeclip.config import model_config
from spikeclip.convert.sample import Sample
from spikeclip.data.images import Images
from spikeclip.towers import image_tower
from spikeclip.towers.network import as_network

SIDE = 33
"""Odd, so that padding SAME is not the same on both sides."""


@pytest.fixture(scope="session")
def network():
    """A small ordinary network of random weights whose BatchNorm fits its currents."""
    torch.manual_seed(0)
    image = {"widths": [8, 6, 8, 12, 12, 16, 16, 24, 32], "repeats": [1, 2, 1, 1, 1, 1, 1]}
    config = model_config("spikeclip-lite0", neuron="relu", embed_dim=10, image_size=SIDE, image=image)
    tower = image_tower(config.image, config.neuron, 10).train()
    with torch.no_grad():
        for module in tower.modules():
            if hasattr(module, "running_var"):
                module.momentum = 1.0
                module.weight.uniform_(0.5, 2)
                module.bias.normal_(0.5, 0.5)
        tower(torch.randn(64, 3, SIDE, SIDE))
    return as_network("small", config, tower)


@pytest.fixture(scope="session")
def samples():
    """Pictures to fit on and others: coarse noise, as photographs have more of than fine noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (48, 9, 9, 3), dtype=np.uint8)
    pixels = np.ascontiguousarray(coarse.repeat(4, 1).repeat(4, 2)[:, :SIDE, :SIDE])
    return Sample(Images([pixels[:32]]), "fitted"), Sample(Images([pixels[32:]]), "held out")
