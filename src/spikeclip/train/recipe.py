"""Reading run files: YAML, with `key.sub=value` changes from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from spikeclip.config import RunConfig, from_dict, model_config
from spikeclip.errors import InputError


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a recipe and apply overrides such as `seed=1`, `model.neuron=relu` or `stages.2.epochs=3`.

    Values are read as YAML. Raises `InputError` for a missing file, bad YAML, an unknown key (with the near one)
    or a value that is of the wrong type or cannot work.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such recipe: {path}")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no settings")
    for override in overrides or []:
        _apply(values, override)
    config = from_dict(RunConfig, values)
    if not config.stages:
        raise InputError(f"{path} lists no stages: add `stages:` with at least one `- stage: ...`")
    _check(config)
    return config


def _check(config: RunConfig) -> None:
    """Raise `InputError` for numbers that cannot work, before anything is loaded."""
    settings, spiking_only = dict(config.model), False
    if "pretrained" not in settings:
        neuron = model_config(settings.pop("name", "spikeclip-tiny"), **settings).neuron.kind
        spiking_only = neuron in ("lif", "plif")
    if not 0 < config.data.val_fraction <= 0.5:
        raise InputError(f"data.val_fraction must be above 0 and at most 0.5, got {config.data.val_fraction}")
    for i, stage in enumerate(config.stages):
        for key, value in (("epochs", stage.epochs), ("batch_size", stage.batch_size)):
            if value < 1:
                raise InputError(f"stages.{i}.{key} must be at least 1, got {value}")
        for key, value in (("relu_first", stage.relu_first), ("optimizer.warmup", stage.optimizer.warmup)):
            if not 0 <= value <= 1:
                raise InputError(f"stages.{i}.{key} is a share of the steps, from 0 to 1, got {value}")
        if stage.loss.rate and config.compile:
            raise InputError(f"stages.{i}.loss.rate reads layers that compile hides: set compile: false")
        if stage.relu_first and spiking_only:
            raise InputError(
                f"stages.{i}.relu_first works with neuron ilif or quant_relu; lif and plif have no ReLU phase"
            )


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"expected key=value, got {override!r}")
    *parents, last = key.split(".")
    target: Any = values
    for part in parents:
        target = target.setdefault(part, {}) if isinstance(target, dict) else _item(target, part, key)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{key}: {text!r} is not valid YAML") from error
    if isinstance(target, list):
        _item(target, last, key)
        target[int(last)] = value
    elif isinstance(target, dict):
        target[last] = value
    else:
        raise InputError(f"{key}: {'.'.join(parents)} is a value, not a table")


def _item(target: Any, part: str, key: str) -> Any:
    if not isinstance(target, list) or not part.isdigit() or int(part) >= len(target):
        count = f"there are {len(target)}" if isinstance(target, list) else "this is a value, not a list"
        raise InputError(f"{key}: {part!r} is not the number of an entry ({count})")
    return target[int(part)]
