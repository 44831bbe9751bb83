"""A converted image tower in a folder: its weights, its configuration, and how it was made.

It is half of a model: a text tower and a readout into its space make it one.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors.torch import save

from spikeclip.config import ModelConfig, check, from_dict, to_dict
from spikeclip.convert.run import Conversion
from spikeclip.errors import InputError
from spikeclip.files import replacing
from spikeclip.records import json_text, read_json
from spikeclip.towers import image_tower
from spikeclip.towers.separable import SeparableTower
from spikeclip.towers.weights import load_file

CONFIG, WEIGHTS, RECORD = "config.json", "model.safetensors", "conversion.json"
_TYPE = "spikeclip-image-tower"
_UNUSED = "text"


def save_conversion(conversion: Conversion, folder: Path) -> None:
    """Write a conversion; its files take their places when all are written."""
    config = {key: value for key, value in to_dict(conversion.config).items() if key != _UNUSED}
    state = {name: value.contiguous() for name, value in conversion.tower.state_dict().items()}
    files = {
        WEIGHTS: save(state, {"format": "pt"}),
        CONFIG: (json.dumps({"model_type": _TYPE, **config}, indent=2) + "\n").encode(),
        RECORD: (json_text(conversion.record) + "\n").encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name, content in files.items():
            file = stack.enter_context(replacing(folder / name))
            file.write(content)
            file.flush()


def is_conversion(folder: Path) -> bool:
    """Whether a folder holds what `save_conversion` writes."""
    return (folder / CONFIG).is_file() and (folder / RECORD).is_file()


def load_conversion(folder: str | Path) -> Conversion:
    """Read what `save_conversion` wrote; raises `InputError` where it is missing or damaged."""
    folder = Path(folder).expanduser()
    file = folder / CONFIG
    if not file.is_file():
        raise InputError(f"{folder} holds no converted tower: it has no {CONFIG}")
    values: Any = read_json(file)
    if not isinstance(values, dict) or values.pop("model_type", None) != _TYPE:
        raise InputError(f"{file} does not describe a converted tower (model_type is not {_TYPE!r})")
    config = from_dict(ModelConfig, values, str(file))
    check(config)

    def make() -> SeparableTower:
        tower = image_tower(config.image, config.neuron, config.embed_dim)
        if not isinstance(tower, SeparableTower):
            raise InputError(f"{file}: a converted tower is separable, got {config.image.architecture}")
        return tower

    return Conversion(
        config, load_file(make, folder / WEIGHTS).eval(), read_json(folder / RECORD, default={})
    )
