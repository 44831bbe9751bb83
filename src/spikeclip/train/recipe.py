"""Reading run files: YAML, with `key.sub=value` changes from the command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from spikeclip.config import RunConfig, from_dict, to_dict
from spikeclip.errors import InputError


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a recipe and apply overrides such as `seed=1`, `model.neuron=relu` or `stages.2.epochs=3`.

    A stage is also named by its kind, all of them by `*`: `stages.finetune.epochs=3`, `stages.*.batch_size=64`;
    `stages.align_image=null` removes it. Values are read as YAML. Raises `InputError` for a missing file, bad YAML,
    an unknown key (with the near one) or a value that is of the wrong type or cannot work.
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
    if isinstance(values.get("stages"), list):
        values["stages"] = [stage for stage in values["stages"] if stage is not None]
    config = from_dict(RunConfig, values)
    if not config.stages:
        raise InputError(f"{path} lists no stages: add `stages:` with at least one `- stage: ...`")
    _check(config)
    return config


def recipe_values(config: RunConfig) -> dict[str, Any]:
    """Return a run's settings as plain values for JSON, of the model those that were given; `from_dict` reads them."""
    return {**to_dict(config), "model": config.model.given()}


def changed_settings(saved: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Return the keys in which a saved recipe, as JSON has it, differs; one that it lacks had its default."""
    old = to_dict(from_dict(RunConfig, saved))
    new = json.loads(json.dumps(to_dict(config)))
    return [key for key, value in json.loads(json.dumps(old)).items() if new[key] != value]


def _check(config: RunConfig) -> None:
    """Raise `InputError` for numbers that cannot work, before anything is loaded."""
    spiking_only = False
    if config.model.pretrained is None:
        spiking_only = config.model.resolve().neuron.kind in ("lif", "plif")
    if not 0 < config.data.val_fraction <= 0.5:
        raise InputError(f"data.val_fraction must be above 0 and at most 0.5, got {config.data.val_fraction}")
    for i, stage in enumerate(config.stages):
        for key, value in (("epochs", stage.epochs), ("batch_size", stage.batch_size)):
            if value < 1:
                raise InputError(f"stages.{i}.{key} must be at least 1, got {value}")
        for key, value in (("relu_first", stage.relu_first), ("optimizer.warmup", stage.optimizer.warmup)):
            if not 0 <= value <= 1:
                raise InputError(f"stages.{i}.{key} is a share of the steps, from 0 to 1, got {value}")
        if not 0 < stage.share <= 1:
            raise InputError(f"stages.{i}.share must be above 0 and at most 1, got {stage.share}")
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
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{key}: {text!r} is not valid YAML") from error
    *parents, last = key.split(".")
    targets: list[Any] = [values]
    for part in parents:
        targets = [inner for target in targets for inner in _inside(target, part, key)]
    for target in targets:
        if isinstance(target, list):
            for place in _places(target, last, key):
                target[place] = copy.deepcopy(value)
        elif isinstance(target, dict):
            target[last] = copy.deepcopy(value)
        else:
            raise InputError(f"{key}: {'.'.join(parents)} is a value, not a table")


def _inside(target: Any, part: str, key: str) -> list[Any]:
    if isinstance(target, dict):
        return [target.setdefault(part, {})]
    return [target[place] for place in _places(target, part, key)]


def _places(target: Any, part: str, key: str) -> list[int]:
    """Entries of a list that `part` names: one by its number, all by *, or the stages of a kind."""
    if isinstance(target, list):
        if part.isdigit() and int(part) < len(target):
            return [int(part)]
        kinds = [entry.get("stage") if isinstance(entry, dict) else None for entry in target]
        named = [place for place, kind in enumerate(kinds) if kind and part in ("*", kind)]
        if named:
            return named
    count = f"there are {len(target)}" if isinstance(target, list) else "this is a value, not a list"
    raise InputError(f"{key}: {part!r} is not the number of an entry or the kind of a stage ({count})")
