"""What can be said about a run by its recipe alone, before anything is loaded, built or written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spikeclip.config import (
    PRESETS,
    DataConfig,
    ImageConfig,
    ModelConfig,
    ModelSettings,
    RunConfig,
    StageConfig,
    TeacherConfig,
    TextConfig,
    from_dict,
)
from spikeclip.config.ranges import check_ranges
from spikeclip.errors import InputError, unknown
from spikeclip.teacher.open import is_image_network

_TERMS = {
    "align_text": ("cosine", "interactive", "relational"),
    "align_image": ("cosine", "interactive", "relational", "texts", "prototype"),
    "finetune": ("ce", "kl", "keep"),
}
"""Terms of the loss that each stage reads, by `LossConfig`; contrastive always has its own."""
_EXAMPLES = {
    "data.source": "FOLDER, or to a name of `spikeclip data list`",
    "data.texts": "FILE, one text a line",
    "teacher.path": "TABLE.npz, or to the folder or hub name of a CLIP model or sentence encoder",
    "teacher.encoder": "the folder or hub name of a sentence encoder",
    "teacher.readout": "the .npz file that `spikeclip teacher readout` wrote",
    "model.pretrained": "the folder of a saved model",
    "tokenizer": "auto, or to a tokenizer.json",
}
"""What a setting with a path takes."""


def check_run(config: RunConfig) -> None:
    """Raise `InputError`, with the key, for a value outside its range and for settings that do not go together."""
    for key, part in _parts(config):
        check_ranges(part, key)
        for field in dataclasses.fields(part):
            _check_filled(getattr(part, field.name), f"{key}{field.name}")
    if not config.stages:
        raise InputError("the recipe lists no stages: add `stages:` with at least one `- stage: ...`")
    model = _resolved(config.model)
    _check_data(config.data)
    _check_teacher(config.teacher, config.stages)
    for i, stage in enumerate(config.stages):
        _check_stage(f"stages.{i}", stage, config)
    if model is not None:
        check_stages(config.stages, model)


def check_stages(stages: list[StageConfig], model: ModelConfig) -> None:
    """Raise `InputError`, with the key, for settings of a stage that the model cannot be trained with."""
    for i, stage in enumerate(stages):
        _check_fits(f"stages.{i}", stage, model)


def check_files(config: RunConfig) -> None:
    """Raise `InputError`, with the key and what to set, for a path of a recipe where nothing is; names are not checked.

    A path is what starts with ".", "/" or "~", has two slashes or more, or stands where only a file can.
    """
    data, teacher, model = config.data, config.teacher, config.model
    places: list[tuple[str, str | list[str] | None, bool]] = [
        ("data.source", data.source, False),
        ("data.texts", data.texts, True),
        ("teacher.path", teacher.path, False),
        ("teacher.encoder", teacher.encoder, False),
        ("teacher.readout", teacher.readout, True),
        ("model.pretrained", model.pretrained, False),
        ("tokenizer", None if config.tokenizer == "auto" else config.tokenizer, True),
    ]
    for key, given, is_file in places:
        for text in [given] if isinstance(given, str) else given or []:
            is_path = is_file or text.endswith((".npz", ".pth")) or text[0] in "./~" or text.count("/") > 1
            if is_path and not Path(text).expanduser().exists():
                start = "" if text[0] in "/~" else f", looked for from {Path.cwd()}"
                raise InputError(f"{key}: {text} does not exist{start}; set {key}={_EXAMPLES[key]}")


def _parts(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dataclasses of a recipe with the keys they stand under."""
    yield key, config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        entries = enumerate(value) if isinstance(value, list) else [("", value)]
        for place, part in entries:
            if dataclasses.is_dataclass(part):
                yield from _parts(part, f"{key}{field.name}.{place}{'.' if place != '' else ''}")


def _check_filled(value: Any, key: str) -> None:
    """Raise `InputError` for a text without a character, also in a list or as name or value of a table."""
    if isinstance(value, str) and not value.strip():
        raise InputError(f"{key} is empty")
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for place, entry in entries:
        _check_filled(place, key)
        _check_filled(entry, f"{key}.{place}")


def _resolved(settings: ModelSettings) -> ModelConfig | None:
    """Return the model's configuration, None for a saved model; errors name the keys of the recipe."""
    from_dict(ImageConfig, settings.image or {}, "model.image")
    from_dict(TextConfig, settings.text or {}, "model.text")
    if settings.pretrained is not None:
        return None
    if settings.name is not None and settings.name not in PRESETS:
        raise unknown("value of model.name", settings.name, PRESETS)
    try:
        return settings.resolve()
    except InputError as error:
        raise InputError(f"model: {error}") from error


def _check_data(data: DataConfig) -> None:
    if not data.source:
        raise InputError("data.source is empty: give a known name, a folder or a list of them")
    if data.train_split == data.test_split:
        raise InputError(
            f"data.test_split is {data.test_split!r} as data.train_split: the result would be that of pictures it "
            "learned; name another split, or null for none"
        )
    if not data.templates:
        raise InputError('data.templates is empty: give at least one prompt, such as ["a photo of a {c}."]')
    for i, template in enumerate(data.templates):
        if "{c}" not in template:
            raise InputError(
                f"data.templates.{i} is {template!r}, without {{c}}, the place of the class name"
            )


def _check_teacher(teacher: TeacherConfig, stages: list[StageConfig]) -> None:
    taught = [(i, stage.stage) for i, stage in enumerate(stages) if stage.stage != "contrastive"]
    if taught and not teacher.path:
        key, kind = taught[0]
        raise InputError(
            f"stages.{key}: stage {kind} needs a teacher: set teacher.path (contrastive is the stage without)"
        )
    if teacher.encoder is not None and not teacher.path:
        raise InputError("teacher.encoder adds texts to the tables of teacher.path: set that too")
    paths = [teacher.path] if isinstance(teacher.path, str) else teacher.path or []
    if teacher.readout is not None and not any(map(is_image_network, paths)):
        raise InputError(
            "teacher.readout is of an image network's features: name one in teacher.path, such as efficientnet-lite0"
        )
    several = teacher.path if isinstance(teacher.path, list) else []
    others = [path for path in several if not path.endswith(".npz") and not is_image_network(path)]
    if len(several) > 1 and (others or sum(map(is_image_network, several)) > 1):
        raise InputError(
            "teacher.path: several teachers in one are .npz tables and at most one image network, got "
            f"{', '.join(map(repr, others or several))} (`spikeclip teacher embed` makes a table of any other)"
        )


def _check_stage(key: str, stage: StageConfig, config: RunConfig) -> None:
    terms = _TERMS.get(stage.stage, ())
    if terms and not any(getattr(stage.loss, term) for term in terms):
        raise InputError(
            f"{key}.loss: stage {stage.stage} has nothing to learn; one of {', '.join(terms)} must be above 0"
        )
    if stage.fixed_statistics and stage.recompute_statistics:
        raise InputError(f"{key}: fixed_statistics and recompute_statistics exclude each other: choose one")
    labels = stage.stage == "finetune" or (stage.stage == "align_image" and stage.loss.prototype > 0)
    captions = _caption_sets(config.data) if labels else []
    if captions:
        have = "has" if len(captions) == 1 else "have"
        needs = f"{key}: stage finetune" if stage.stage == "finetune" else f"{key}.loss.prototype"
        raise InputError(f"{needs} needs labels, and {' and '.join(captions)} {have} captions only")
    if stage.augment.mix != "none" and stage.stage != "finetune":
        raise InputError(
            f"{key}.augment.mix mixes classes, which stage finetune alone learns: set it to none"
        )


def _check_fits(key: str, stage: StageConfig, model: ModelConfig) -> None:
    if stage.augment.colour and model.image.event_frames is not None:
        raise InputError(f"{key}.augment.colour changes colours, and event recordings have none: set it to 0")
    if stage.relu_first and model.neuron.kind in ("lif", "plif"):
        raise InputError(
            f"{key}.relu_first works with neuron ilif or quant_relu; lif and plif have no ReLU phase"
        )
    side = model.image.image_size
    if stage.augment.crop >= side or stage.augment.cutout > side:
        raise InputError(
            f"{key}.augment: crop must be below and cutout at most the pictures' side of {side} pixels, got "
            f"{stage.augment.crop} and {stage.augment.cutout}"
        )


def _caption_sets(data: DataConfig) -> list[str]:
    """Return the sources where all of them are known to have captions and no labels, else none."""
    from spikeclip.data.known import known_datasets
    from spikeclip.data.mixture import source_names

    sources, known = source_names(data), known_datasets()
    captions = [source for source in sources if source in known and known[source].task == "captions"]
    return captions if len(captions) == len(sources) else []
