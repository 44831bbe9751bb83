"""The configuration that lies beside a model's weights."""

from __future__ import annotations

import json
from pathlib import Path

from spikeclip.config.model import ModelConfig, check
from spikeclip.config.parse import from_dict
from spikeclip.errors import InputError


def read_config(folder: Path) -> ModelConfig:
    """Read config.json of a saved model; raises `InputError` where it is missing or not one of ours."""
    file = folder / "config.json"
    if not file.is_file():
        raise InputError(f"{folder} is not a spikeclip model: it has no config.json")
    try:
        values = json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(values, dict) or values.pop("model_type", None) != "spikeclip":
        raise InputError(f"{file} does not describe a spikeclip model (model_type is not 'spikeclip')")
    config = from_dict(ModelConfig, values, str(file))
    check(config)
    return config
