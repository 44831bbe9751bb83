"""The models that are known by name, and a preset with changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from spikeclip.config.model import ImageConfig, ModelConfig, NeuronConfig, TextConfig, check
from spikeclip.config.parse import convert, from_dict, to_dict
from spikeclip.errors import InputError, unknown


def paper() -> ModelConfig:
    """Published SpikeCLIP (arXiv 2310.06488): Spikingformer-4-384 and an MLP on 20 tokens, LIF at T=4."""
    return ModelConfig(
        name="spikeclip-paper",
        neuron=NeuronConfig(kind="lif", T=4),
        image=ImageConfig("spikingformer", widths=(48, 96, 192, 384, 384), depth=4, published=True),
        text=TextConfig("mlp", context_length=20, width=512, depth=0, num_heads=1),
    )


def base() -> ModelConfig:
    """The 4-384 tower done right: I-LIF, first convolution once, head-size scale, normalised readout."""
    return ModelConfig(
        name="spikeclip-base",
        neuron=NeuronConfig(kind="ilif", T=1, D=4),
        image=ImageConfig("spikingformer", widths=(48, 96, 192, 384, 384), depth=4),
        text=TextConfig("transformer", width=384, depth=4, num_heads=8),
    )


def tiny() -> ModelConfig:
    """For two CPU cores: whitening and three convolution groups, a two-block spiking text transformer."""
    return ModelConfig(name="spikeclip-tiny")


PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "spikeclip-paper": paper,
    "spikeclip-base": base,
    "spikeclip-tiny": tiny,
}

_OVERRIDES = ("neuron", "image_size", "embed_dim", "image", "text")


def model_config(name: str = "spikeclip-tiny", **overrides: Any) -> ModelConfig:
    """Return a preset with changes.

    Overrides: `neuron` (kind), any other field of `NeuronConfig` (`T`, `D`, `tau`, `range`, ...), `image_size`,
    `embed_dim`, and tables `image` and `text` with fields of `ImageConfig` and `TextConfig`. Without `T`, the
    twins and ilif run at T=1 and lif and plif at T=4. Raises `InputError` for an unknown name or value, and for
    combinations that cannot work.
    """
    if name not in PRESETS:
        raise unknown("model", name, PRESETS)
    config = PRESETS[name]()
    neuron_fields = {f.name for f in dataclasses.fields(NeuronConfig)} - {"kind"}
    for key in overrides:
        if key not in _OVERRIDES and key not in neuron_fields:
            raise unknown("model setting", key, [*_OVERRIDES, *neuron_fields])
    changes = {k: v for k, v in overrides.items() if k in neuron_fields}
    if "neuron" in overrides:
        changes["kind"] = overrides["neuron"]
        changes.setdefault("T", 4 if overrides["neuron"] in ("lif", "plif") else 1)
    image, text = _table(overrides, "image"), _table(overrides, "text")
    if "image_size" in overrides:
        image["image_size"] = overrides["image_size"]
    config = ModelConfig(
        name=name,
        embed_dim=convert(int, overrides.get("embed_dim", config.embed_dim), "embed_dim"),
        neuron=from_dict(NeuronConfig, to_dict(config.neuron) | changes, "neuron"),
        image=from_dict(ImageConfig, to_dict(config.image) | image, "image"),
        text=from_dict(TextConfig, to_dict(config.text) | text, "text"),
    )
    check(config)
    return config


def _table(overrides: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = overrides.get(key) or {}
    if not isinstance(value, Mapping):
        raise InputError(f"{key}: expected a table of settings, got {value!r}")
    return dict(value)
