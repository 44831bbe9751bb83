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
    or a value of the wrong type.
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
    settings = dict(config.model)
    if "pretrained" not in settings:
        model_config(settings.pop("name", "spikeclip-tiny"), **settings)
    if not config.stages:
        raise InputError(f"{path} lists no stages: add `stages:` with at least one `- stage: ...`")
    return config


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"expected key=value, got {override!r}")
    *parents, last = key.split(".")
    target: Any = values
    for part in parents:
        target = target.setdefault(part, {}) if isinstance(target, dict) else _item(target, part, key)
    value = yaml.safe_load(text)
    if isinstance(target, list):
        _item(target, last, key)
        target[int(last)] = value
    elif isinstance(target, dict):
        target[last] = value
    else:
        raise InputError(f"{key}: {'.'.join(parents)} is a value, not a table")


def _item(target: Any, part: str, key: str) -> Any:
    if not isinstance(target, list) or not part.isdigit() or int(part) >= len(target):
        raise InputError(f"{key}: {part!r} is not the number of an entry (there are {len(target)})")
    return target[int(part)]
