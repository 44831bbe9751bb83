"""What lies beside a model's weights, in config.json: its configuration, and what it was taught with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spikeclip import __version__
from spikeclip.config.model import ModelConfig, check
from spikeclip.config.parse import from_dict, to_dict
from spikeclip.config.ranges import check_ranges
from spikeclip.defaults import TEMPLATE
from spikeclip.errors import InputError
from spikeclip.records import read_json

_TYPE = "spikeclip"


@dataclass(frozen=True)
class Taught:
    """What a model was taught with; an untrained one nothing. The prompts are the default wherever it is used."""

    templates: list[str] = field(default_factory=list)
    """Prompt templates of its training; {c} is the class name."""
    renames: dict[str, str] = field(default_factory=dict)
    """Class names that its training replaced, old name: new name."""
    sources: list[str] = field(default_factory=list)
    """Data sets of its training."""
    teacher: str | None = None
    """The teacher whose embedding space it learned."""
    stages: list[str] = field(default_factory=list)
    """Its training in words, such as "align_image, 15 epochs"."""
    seed: int | None = None
    """Seed of the training."""
    scores: dict[str, float] = field(default_factory=dict)
    """What was measured, by its name in words; accuracy and recall as fractions."""
    costs: dict[str, str] = field(default_factory=dict)
    """What one picture costs, counted (see `spikeclip.energy.costs`): what it is in words, and how much."""
    classnames: list[str] = field(default_factory=list)
    """Class names of its training, where their words are all that it learned: it had no teacher and no captions."""

    def __post_init__(self) -> None:
        check_ranges(self, "taught.")
        for template in self.templates:
            if "{c}" not in template:
                raise InputError(f"taught.templates: {template!r} lacks {{c}}, the place of the class name")

    @property
    def prompts(self) -> list[str]:
        """The templates, or the usual one where the model was taught with none."""
        return self.templates or [TEMPLATE]

    def renames_of(self, classnames: Sequence[str]) -> dict[str, str]:
        """Return the renames that fit class names: the old one is among them, and the new one is not."""
        return {old: new for old, new in self.renames.items() if old in classnames and new not in classnames}

    def warn_of_other(
        self, templates: Sequence[str], classnames: Sequence[str], renames: Mapping[str, str], name: str
    ) -> bool:
        """Warn where the model `name` is asked with other words than it was taught with; whether it is.

        classnames: of the data, before `renames` replaced them, old name: new name.
        """
        taught, asked = [], []
        if self.templates and list(templates) != self.templates:
            taught.append(f"the prompts {', '.join(map(repr, self.templates[:3]))}")
            asked.append(", ".join(map(repr, list(templates)[:3])))
        for old, new in self.renames_of(classnames).items():
            if renames.get(old) != new:
                taught.append(f"{new!r} for {old!r}")
                asked.append(repr(renames.get(old, old)))
        if taught:
            told = f"{name} was taught with {', '.join(taught[:4])}, and is asked with {', '.join(asked[:4])}"
            warnings.warn(told, stacklevel=3)
        return bool(taught)

    def after(self, before: Taught) -> Taught:
        """Return this with the data sets, stages, renames and class names of the training before it added."""
        known = [*before.classnames, *self.classnames] if before.classnames and self.classnames else []
        return replace(
            self,
            classnames=list(dict.fromkeys(known)) if before.stages else self.classnames,
            renames={**before.renames, **self.renames},
            sources=list(dict.fromkeys([*before.sources, *self.sources])),
            teacher=self.teacher or before.teacher,
            stages=[*before.stages, *self.stages],
        )


@dataclass(frozen=True)
class Saved:
    """What config.json of a saved model holds."""

    config: ModelConfig
    taught: Taught
    version: str
    """The spikeclip that saved it; "" for one from before this was written down."""


def read_saved(folder: Path) -> Saved:
    """Read config.json of a saved model; raises `InputError` where it is missing or not one of ours.

    A model of a newer spikeclip is read where it can be, with a warning.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise InputError(f"{folder} is not a spikeclip model: it has no config.json")
    values = read_json(file)
    if not isinstance(values, dict) or values.pop("model_type", None) != _TYPE:
        raise InputError(f"{file} does not describe a spikeclip model (model_type is not 'spikeclip')")
    version, taught = values.pop("version", ""), values.pop("taught", {})
    if not isinstance(version, str):
        raise InputError(f"{file}.version: expected a version such as {__version__!r}, got {version!r:.80}")
    newer = _numbers(version) > _numbers(__version__)
    told = f"{folder} was saved by spikeclip {version:.20}, and this is {__version__}"
    try:
        saved = Saved(from_dict(ModelConfig, values, str(file)), read_taught(taught, str(file)), version)
        check(saved.config)
    except InputError as error:
        if newer:
            raise InputError(f"{error} ({told}: install the newer one)") from error
        raise
    if newer:
        warnings.warn(f"{told}; install the newer one if its results are not as expected", stacklevel=2)
    return saved


def read_config(folder: Path) -> ModelConfig:
    """Read the configuration of a saved model; raises `InputError` as `read_saved` does."""
    return read_saved(folder).config


def read_taught(values: Any, where: str) -> Taught:
    """Return what a file says that a model was taught with; raises `InputError` that names the file."""
    try:
        return from_dict(Taught, values, "taught")
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def saved_values(config: ModelConfig, taught: Taught) -> Mapping[str, Any]:
    """Return the content of config.json; `read_saved` reads it."""
    return {
        "model_type": _TYPE,
        "version": __version__,
        **to_dict(config),
        **({"taught": to_dict(taught)} if taught != Taught() else {}),
    }


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:3]
    return tuple(int(part) if part.isascii() and part.isdigit() and len(part) < 9 else 0 for part in parts)
