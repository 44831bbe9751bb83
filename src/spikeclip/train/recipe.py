"""Recipes: the built-in ones by name, YAML files, and `key.sub=value` changes from the command line."""

from __future__ import annotations

import copy
import json
import os
import reprlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikeclip.config import ModelConfig, ModelSettings, RunConfig, from_dict, read_config, to_dict
from spikeclip.config.read import parse_yaml, read_yaml
from spikeclip.errors import InputError, nearest
from spikeclip.pretrained.resolve import resolve
from spikeclip.train.recipe_checks import check_run

BUILT_IN = Path(__file__).parents[1] / "recipes"
"""In a checkout a link to the repository's recipes/."""
_ENDINGS = (".yaml", ".yml", ".json")
_MACHINE = ("feed", "recompute", "checkpoint_minutes")
"""Settings that say how a run is computed, and leave its weights bit by bit as they are."""


def built_in_recipes() -> dict[str, str]:
    """Return what each built-in recipe is for, the first line of its file, by its name."""
    files = sorted(BUILT_IN.glob("*.yaml"), key=lambda file: file.stem)
    return {file.stem: file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for file in files}


def find_recipe(name: str | Path) -> Path:
    """Return the file of a recipe, a path or the name of a built-in one; or the folder of pictures in place of it.

    The name of a built-in one never means a file or folder of the working directory, as a known data set's does not:
    that is written with a slash. Raises `InputError` where there is neither, and for a file of another kind.
    """
    given = str(name).strip()
    if not given:
        raise InputError("the name of the recipe is empty; `spikeclip train --list` names those built in")
    path = Path(given).expanduser()
    bare = not {"/", os.sep} & set(given)
    built_in = BUILT_IN / f"{path.name.removesuffix('.yaml')}.yaml"
    if bare and built_in.is_file() and not (path.suffix and path.exists()):
        if path.is_dir():
            warnings.warn(f"{path} is a built-in recipe; the folder is ./{path}", stacklevel=2)
        return built_in
    is_yaml = path.suffix in _ENDINGS
    if path.is_file() and path.suffix and not is_yaml:
        raise InputError(
            f"{name} is neither a recipe, which ends in .yaml, nor a folder with a folder of pictures for each class"
        )
    if path.exists():
        return path
    near = nearest(built_in.stem, built_in_recipes())
    hint = (
        f"did you mean {near!r}, which is built in?"
        if near
        else "`spikeclip train --list` names those built in"
    )
    missing = "recipe" if bare or is_yaml else "folder of pictures, and no such recipe"
    raise InputError(f"no such {missing}: {name}; {hint}")


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a recipe and apply overrides such as `seed=1`, `model.neuron=relu` or `stages.2.epochs=3`.

    path: of a file, or the name of a built-in recipe. A stage is also named by its kind, all of them by `*`:
    `stages.finetune.epochs=3`, `stages.*.batch_size=64`; `stages.align_image=null` removes it. Values are read as
    YAML. Relative paths in a recipe start at the working directory.

    Raises `InputError` for a missing file, bad YAML, an unknown key (with the near one), a missing one, and a value
    that is of the wrong type or cannot work; see `check_run`.
    """
    path = find_recipe(path)
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no settings: expected a table of data, teacher, stages and others")
    for override in overrides or []:
        _apply(values, override)
    if isinstance(values.get("stages"), list):
        values["stages"] = [stage for stage in values["stages"] if stage is not None]
    config = from_dict(RunConfig, values)
    check_run(config)
    return config


def read_model_config(settings: ModelSettings) -> ModelConfig:
    """Return the configuration of a run's model in full; raises `InputError` where there is none."""
    if settings.pretrained is not None:
        return read_config(resolve(settings.pretrained).folder)
    return settings.resolve()


def recipe_values(config: RunConfig) -> dict[str, Any]:
    """Return a run's settings as plain values for JSON, of the model those that were given; `from_dict` reads them."""
    return {**to_dict(config), "model": config.model.given()}


def changed_settings(saved: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Return the keys in which a saved recipe, as JSON has it, differs; one that it lacks had its default.

    What leaves every result as it is does not count: how a run is computed, and where its pictures are cached.
    """
    old, new = full_values(from_dict(RunConfig, saved)), full_values(config)
    old["data"]["cache"] = new["data"]["cache"]
    return [key for key in old if new[key] != old[key] and key not in _MACHINE]


def changed_training(saved: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Return `changed_settings` but for the split to test: the pictures tell where that matters."""
    if isinstance(saved.get("data"), dict):
        saved = {**saved, "data": {**saved["data"], "test_split": config.data.test_split}}
    return changed_settings(saved, config)


def full_values(config: RunConfig) -> dict[str, Any]:
    """Return a run's settings as JSON reads them, its model in full: equal for recipes that train the same.

    A setting that is written out and equals the default, such as T: 1, makes no other recipe.
    """
    model = config.model if config.model.pretrained else config.model.resolve()
    return json.loads(json.dumps({**to_dict(config), "model": to_dict(model)}))


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not 0 < len(key) <= 200:
        raise InputError(f"expected key=value, got {reprlib.repr(override)}")
    value = parse_yaml(text, f"{key}: {reprlib.repr(text)}")
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
        if part.isdecimal() and len(part) < 10 and int(part) < len(target):
            return [int(part)]
        kinds = [entry.get("stage") if isinstance(entry, dict) else None for entry in target]
        named = [place for place, kind in enumerate(kinds) if kind and part in ("*", kind)]
        if named:
            return named
    count = f"there are {len(target)}" if isinstance(target, list) else "this is a value, not a list"
    raise InputError(f"{key}: {part!r} is not the number of an entry or the kind of a stage ({count})")
