"""Weights of a tower as public files name them."""

from pathlib import Path

import torch
from torch import Tensor

from spikeclip.config import model_config
from spikeclip.towers import image_tower
from spikeclip.towers.network import Network, as_network, families
from spikeclip.towers.norm import BatchNorm
from spikeclip.towers.separable import SeparableTower


def public_state(network: Network) -> dict[str, Tensor]:
    """The weights of an ordinary network under the names of its family's files."""
    state, modules = {}, families()[0].modules
    for name, value in network.tower.state_dict().items():
        module, _, kind = name.rpartition(".")
        number = module.split(".")[1] if module.startswith("blocks.") else ""
        theirs = modules.get(module.replace(f".{number}.", ".{i}.") if number else module)
        if theirs:
            state[f"{theirs.replace('{i}', number)}.{kind}"] = value
    return state


def write_lite0(file: Path) -> SeparableTower:
    """Write the weights of a random Lite0 and return it: its BatchNorm has the epsilon of the public network."""
    config = model_config("spikeclip-lite0", neuron="relu", embed_dim=1000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tower = image_tower(config.image, config.neuron, 1000).eval()
        assert isinstance(tower, SeparableTower)
        for name, value in tower.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    torch.save(public_state(as_network("lite0", config, tower)), file)
    for module in tower.modules():
        if isinstance(module, BatchNorm):
            module.eps = 1e-3
    return tower
