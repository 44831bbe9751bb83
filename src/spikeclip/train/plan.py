"""A recipe for a folder of one's own pictures: batches, epochs and validation sized to them, and a teacher."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from spikeclip.config import RunConfig
from spikeclip.data.locate import find_source
from spikeclip.data.mixture import join, load_sources
from spikeclip.data.readers.listing import listed
from spikeclip.errors import InputError
from spikeclip.evaluate.statistics import share_bounds
from spikeclip.teacher.choose import Teaching, choose_teacher
from spikeclip.train.recipe import BUILT_IN, load_recipe, read_model_config
from spikeclip.train.recipe_checks import check_files

ALONE, TAUGHT = BUILT_IN / "folder.yaml", BUILT_IN / "folder-teacher.yaml"
"""What is the same for all folders: without a teacher, and with one."""
FEW = 10
"""Classes with fewer training pictures are named."""
FEW_TO_CHOOSE = 100
"""Fewer validation pictures choose no weights: the best of many epochs would be the luckiest."""
_NAMED = 8


@dataclass(frozen=True)
class Folder:
    """Readable training pictures of each class by its name, and the pictures of the other splits, None without one."""

    classes: dict[str, int]
    validation: int | None
    test: int | None


@dataclass(frozen=True)
class Sizes:
    """val_fraction: share of each class that validates. select: as of a stage. text_epochs: over a teacher's texts."""

    val_fraction: float
    batch_size: int
    epochs: int
    text_epochs: int
    select: Literal["best", "last"]


@dataclass(frozen=True)
class Plan:
    """A run that was planned: its recipe, the class names it learns, and what a person is told of it.

    caution: what the accuracy of the validation pictures is worth, which a run without a test split ends with.
    """

    config: RunConfig
    classnames: list[str]
    lines: list[str]
    caution: str


def plan_folder(folder: Path, changes: Sequence[str] = ()) -> Plan:
    """Plan the training on a folder with a folder of pictures for each class; its pictures are decoded and cached.

    folder: class/*.jpg, or splits of those, of which only "train" is needed; or another labelled source. changes: of
    the recipe, as for `load_recipe`, on top of what is planned. The same folder, changes and teachers at hand give the
    same plan. Raises `InputError` as `load_recipe`, `load_pictures` and `choose_teacher` do, for changes that name
    other pictures, for pictures without classes, and where no class has a picture to spare for validation.
    """
    # A bare name is a known set's.
    source = str(folder) if folder.is_absolute() else os.path.join(".", folder)
    start = [f"data.source={json.dumps(source)}"]
    starts_with = {
        key for key in ("model.pretrained", "teacher.path", "data.templates") if _gives(changes, key)
    }
    if "model.pretrained" in starts_with:
        start.append("model={}")
    asked = load_recipe(ALONE, [*start, *(change for change in changes if not change.startswith("stages"))])
    if asked.data.source != source:
        raise InputError(
            f"the pictures are those of {folder}: leave out data.source={asked.data.source}, or give that folder"
        )
    check_files(asked)
    found = read_folder(asked)
    given = asked.teacher if "teacher.path" in starts_with else None
    templates = asked.data.templates if "data.templates" in starts_with else None
    teaching = choose_teacher(list(found.classes), given, templates)
    sizes = sized(list(found.classes.values()), found.validation, teaching.texts)
    planned = planned_changes(sizes, found.test is not None, teaching, "model.pretrained" in starts_with)
    config = load_recipe(TAUGHT if teaching.path else ALONE, [*start, *planned, *changes])
    return Plan(config, list(found.classes), _lines(config, found, teaching), _caution(config, found))


def read_folder(config: RunConfig) -> Folder:
    """Count the readable pictures of a run's source, class by class; raises as `plan_folder`."""
    source, data = str(config.data.source), config.data
    located = find_source(source)
    if located.events:
        raise InputError(f"{source} holds event recordings: recipes/nmnist.yaml is a recipe for those")
    format = read_model_config(config.model).image.format
    train = join(load_sources(data, data.train_split, format, data.limit))
    if train.labels is None:
        raise InputError(
            f"{source} holds captions and no classes: put the pictures of each class into a folder of its name "
            "(recipes/flickr8k.yaml is a recipe for captions)"
        )
    counts = np.bincount(train.labels, minlength=len(train.classnames)).tolist()
    withheld = set(data.withhold)
    classes = {
        name: n for name, n in zip(train.classnames, counts, strict=True) if n and name not in withheld
    }
    if len(classes) < 2:
        raise InputError(
            f"{source} has training pictures of one class only, {', '.join(map(repr, classes))}: "
            "there is nothing to tell apart. Put the pictures of each class into a folder of its name"
        )
    test, validation = located.find("test"), located.validation(data.train_split, "test")
    return Folder(
        classes,
        validation=located.count(validation) if validation else None,
        test=located.count(test) if test else None,
    )


def sized(classes: Sequence[int], validation: int | None, texts: int = 0) -> Sizes:
    """Return the sizes of a training from the numbers of its pictures.

    classes: training pictures of each class. validation: pictures of a validation split, None without one. texts: how
    many texts a teacher has. Few pictures take many epochs and small batches, or there are not the few hundred steps
    that a network needs. Raises `InputError` where no class can spare a picture for validation.
    """
    count = sum(classes)
    # Of most classes with a picture or two a fifth is none.
    fraction = next((f for f in (0.1 if count > 2000 else 0.2, 0.5) if _held(classes, f)), 0.2)
    held = 0 if validation is not None else _held(classes, fraction)
    if validation is None and not held:
        raise InputError(
            "no class has a second picture, so there is none to validate with: add some, or a folder val/"
        )
    learned = count - held
    batch = min(128, max(8, 2 ** round(math.log2(learned / 8))), learned)
    epochs = min(120, max(6, round(300 / learned ** (1 / 3))))
    select = "best" if (validation or held) >= FEW_TO_CHOOSE else "last"
    return Sizes(fraction, batch, epochs, max(10, round(150 / max(1, texts // 256))), select)


def planned_changes(sizes: Sizes, tested: bool, teaching: Teaching, pretrained: bool) -> list[str]:
    """Return what of the recipe depends on the pictures and the teacher, as changes of it.

    tested: whether there is a test split. pretrained: whether the run starts from a trained network, which larger steps
    would destroy.
    """
    stage = "stages.finetune" if teaching.path else "stages.contrastive"
    changes = {
        "data.val_fraction": sizes.val_fraction,
        "data.test_split": "test" if tested else None,
        f"{stage}.batch_size": sizes.batch_size,
        f"{stage}.epochs": sizes.epochs,
        f"{stage}.select": sizes.select,
    }
    if teaching.path:
        changes |= {"teacher.path": teaching.path, "teacher.encoder": teaching.encoder}
        changes["stages.align_text.epochs"] = sizes.text_epochs
    if teaching.templates:
        changes["data.templates"] = teaching.templates
    if pretrained:
        changes |= {
            f"{stage}.optimizer.lr": 0.02,
            f"{stage}.optimizer.scalar_lr": 0.0005,
            f"{stage}.relu_first": 0.0,
        }
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def _held(classes: Iterable[int], fraction: float) -> int:
    return sum(round(fraction * n) for n in classes)  # as `validation_split` rounds


def _lines(config: RunConfig, found: Folder, teaching: Teaching) -> list[str]:
    """What a person is told before the training starts."""
    classes, stage = found.classes, config.stages[-1]
    count, share = sum(classes.values()), config.data.val_fraction
    held = _validating(config, found)
    learned = count - (held if found.validation is None else 0)
    steps = max(1, learned // stage.batch_size) * stage.epochs
    lines = [f"pictures    {count} to train with, {len(classes)} classes: {listed(list(classes), _NAMED)}"]
    few = [f"{name} ({n})" for name, n in classes.items() if n < FEW]
    if few:
        lines.append(f"            few pictures of {len(few)} classes: {listed(few, _NAMED)}")
    use = "they choose the epoch whose weights are kept"
    if stage.select == "last":
        use = f"the weights of the last epoch are kept, for so few cannot choose among {stage.epochs}"
    if found.validation is None:
        lines.append(f"validation  {held} of them, {share:.0%} of each class, drawn by the seed; {use}")
        unseen = [name for name, n in classes.items() if not round(share * n)]
        if unseen:
            lines.append(f"            too few to hold one out: {listed(unseen, _NAMED)}")
    else:
        lines.append(f"validation  {found.validation} pictures of its own split; {use}")
    if found.test is None:
        lines.append(f"test        {_caution(config, found)}")
    else:
        lines.append(f"test        {found.test} pictures of test/, read once at the end")
    lines.append(f"teacher     {teaching.why}")
    if not teaching.path:
        lines.append(
            "            without one the network knows the names of these classes and no other words"
        )
    size = f"{stage.epochs} epochs of {learned} pictures in batches of {stage.batch_size}"
    lines.append(f"training    {size}: {steps} steps")
    return lines


def _validating(config: RunConfig, found: Folder) -> int:
    return found.validation or _held(found.classes.values(), config.data.val_fraction)


def _caution(config: RunConfig, found: Folder) -> str:
    count = _validating(config, found)
    low, high = share_bounds(0.9, count)
    chosen = " and too high, for they chose the weights" if config.stages[-1].select == "best" else ""
    return (
        f"none: there is no test/, so the accuracy is that of the {count} validation pictures{chosen}: where it is "
        f"90 %, {low:.0%} to {high:.0%} of other such pictures may be right (95 % interval); more pictures, in test/, "
        "say more"
    )


def _gives(changes: Sequence[str], key: str) -> bool:
    return any(change.startswith(f"{key}=") for change in changes)
