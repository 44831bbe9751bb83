"""The models that are known by name, and a preset with changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from spikeclip.config.model import (
    Current,
    Dimension,
    ImageConfig,
    Levels,
    Membrane,
    ModelConfig,
    NeuronConfig,
    NeuronKind,
    Positive,
    Side,
    Steps,
    Surrogate,
    Tau,
    TextConfig,
    check,
)
from spikeclip.config.parse import from_dict, to_dict
from spikeclip.config.ranges import check_ranges
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


def _lite(scale: int, image_size: int, widths: tuple[int, ...], repeats: tuple[int, ...]) -> ModelConfig:
    """EfficientNet-Lite (github.com/tensorflow/tpu, lite/README) with spiking neurons of eight levels."""
    return ModelConfig(
        name=f"spikeclip-lite{scale}",
        neuron=NeuronConfig(kind="ilif", T=1, D=8),
        image=ImageConfig(
            "separable",
            image_size=image_size,
            widths=widths,
            repeats=repeats,
            mean=(127 / 255, 127 / 255, 127 / 255),
            std=(128 / 255, 128 / 255, 128 / 255),
        ),
        text=TextConfig("transformer", vocab_size=8000, context_length=32, depth=1, eos_id=1),
    )


def lite0() -> ModelConfig:
    """EfficientNet-Lite0's blocks with spiking neurons: 224 pixels, 4 million weights."""
    return _lite(0, 224, (32, 16, 24, 40, 80, 112, 192, 320, 1280), (1, 2, 2, 3, 3, 4, 1))


def lite1() -> ModelConfig:
    """EfficientNet-Lite1: deeper than Lite0, 240 pixels."""
    return _lite(1, 240, (32, 16, 24, 40, 80, 112, 192, 320, 1280), (1, 3, 3, 4, 4, 5, 1))


def lite2() -> ModelConfig:
    """EfficientNet-Lite2: wider than Lite1, 260 pixels."""
    return _lite(2, 260, (32, 16, 24, 48, 88, 120, 208, 352, 1280), (1, 3, 3, 4, 4, 5, 1))


PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "spikeclip-paper": paper,
    "spikeclip-base": base,
    "spikeclip-tiny": tiny,
    "spikeclip-lite0": lite0,
    "spikeclip-lite1": lite1,
    "spikeclip-lite2": lite2,
}


@dataclass(frozen=True)
class ModelSettings:
    """A preset and what a run changes of it, or a saved model to start from. What is None stays as in the preset.

    Raises `InputError` for a number outside its range and for a saved model together with changes; `resolve` checks
    the rest.
    """

    name: str | None = None
    """Preset: spikeclip-paper, -base, -tiny (the default), -lite0, -lite1 or -lite2. The other settings change it."""
    pretrained: str | None = None
    """Folder of a saved model to start from, in place of a preset and changes."""
    embed_dim: Dimension | None = None
    """Dimension of the shared embedding space (the teacher's)."""
    image_size: Side | None = None
    """Side of the square input, pixels (32 to 300); as image.image_size."""
    neuron: NeuronKind | None = None
    """lif, plif (learnable tau), ilif (integer levels), or the twins relu and quant_relu."""
    T: Steps | None = None
    """Time steps; with another neuron and without T, lif and plif run at 4 and the others at 1."""
    D: Levels | None = None
    """Integer levels of ilif and quant_relu: activations are 0, 1/D, ..., 1."""
    tau: Tau | None = None
    """Membrane time constant of lif (and the start of plif), in steps; ilif decays by 1 - 1/tau."""
    v_threshold: Positive | None = None
    """Firing threshold of lif and plif."""
    v_reset: Literal["preset"] | Membrane | None = "preset"
    """Membrane after a spike of lif and plif; null for soft reset (subtract the threshold), preset for the preset's."""
    detach_reset: bool | None = None
    """Cut the gradient through the reset."""
    surrogate: Surrogate | None = None
    """Derivative that stands in for the step function of lif and plif."""
    alpha: Positive | None = None
    """Steepness of the surrogate."""
    range: Current | None = None
    """Input current that ilif and quant_relu map to the highest level D."""
    learn_range: bool | None = None
    """Learn `range`, one value per layer."""
    first_D: tuple[Levels, ...] | None = None
    """Levels of the image tower's first ilif or quant_relu neurons, in their order; the others have D."""
    first_range: tuple[Current, ...] | None = None
    """Ranges of the same neurons, in their order; the others have `range`."""
    image: dict[str, Any] | None = None
    """Changes of the image tower, fields of `ImageConfig`."""
    text: dict[str, Any] | None = None
    """Changes of the text tower, fields of `TextConfig`."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.pretrained is not None and len(self.given()) > 1:
            others = [name for name in self.given() if name != "pretrained"]
            raise InputError(
                f"model.pretrained takes the saved model as it is; remove the other settings of the model, "
                f"{', '.join(others)} (of a recipe: {' '.join(f'model.{name}=null' for name in others)})"
            )

    def resolve(self) -> ModelConfig:
        """Return the preset with the changes; a saved model (`pretrained`) has its configuration in its folder.

        Raises `InputError` for an unknown preset or value, and for combinations that cannot work.
        """
        if self.pretrained is not None:
            raise ValueError(f"the configuration of {self.pretrained} is in its folder")
        name = self.name or "spikeclip-tiny"
        if name not in PRESETS:
            raise unknown("model", name, PRESETS)
        preset = PRESETS[name]()
        image, text = _table(self.image, "image"), _table(self.text, "text")
        if self.image_size is not None:
            image["image_size"] = self.image_size
        embed_dim = preset.embed_dim if self.embed_dim is None else self.embed_dim
        fields = {field.name for field in dataclasses.fields(NeuronConfig)}
        neuron = {key: value for key, value in self.given().items() if key in fields}
        if self.neuron is not None:
            neuron = {"kind": self.neuron, "T": 4 if self.neuron in ("lif", "plif") else 1, **neuron}
        config = ModelConfig(
            name=name,
            embed_dim=embed_dim,
            neuron=from_dict(NeuronConfig, to_dict(preset.neuron) | neuron, "neuron"),
            image=from_dict(ImageConfig, to_dict(preset.image) | image, "image"),
            text=from_dict(TextConfig, to_dict(preset.text) | text, "text"),
        )
        check(config)
        return config

    def given(self) -> dict[str, Any]:
        """Return the settings that are not their defaults, by name."""
        values = {
            field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)
        }
        return {name: value for name, (value, default) in values.items() if value != default}


def model_config(name: str = "spikeclip-tiny", **overrides: Any) -> ModelConfig:
    """Return a preset with changes, those of `ModelSettings`; raises `InputError` as `ModelSettings.resolve` does."""
    known = {field.name for field in dataclasses.fields(ModelSettings)} - {"name", "pretrained"}
    for key in overrides:
        if key not in known:
            raise unknown("model setting", key, known)
    return ModelSettings(name=name, **overrides).resolve()


def _table(value: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    if not isinstance(value or {}, Mapping):
        raise InputError(f"{key}: expected a table of settings, got {value!r}")
    return dict(value or {})
