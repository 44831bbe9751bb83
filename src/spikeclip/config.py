"""What a model and a run are made of, as plain dataclasses; presets are functions that return them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from spikeclip.errors import InputError, unknown

NeuronKind = Literal["lif", "plif", "ilif", "relu", "quant_relu"]
Surrogate = Literal["sigmoid", "atan", "rectangular"]
StageKind = Literal["align_text", "align_image", "finetune", "contrastive"]


@dataclass(frozen=True)
class NeuronConfig:
    kind: NeuronKind = "ilif"
    """lif, plif (learnable tau), ilif (integer levels), or the twins relu and quant_relu."""
    T: int = 1
    """Time steps. The twins run at T=1."""
    D: int = 4
    """Integer levels of ilif and quant_relu: activations are 0, 1/D, ..., 1."""
    tau: float = 2.0
    """Membrane time constant of lif (and the start of plif), in steps; ilif decays by 1 - 1/tau."""
    v_threshold: float = 1.0
    """Firing threshold of lif and plif."""
    v_reset: float | None = 0.0
    """Membrane after a spike of lif and plif; null for soft reset (subtract the threshold)."""
    detach_reset: bool = True
    """Cut the gradient through the reset."""
    surrogate: Surrogate = "sigmoid"
    """Derivative that stands in for the step function of lif and plif."""
    alpha: float = 4.0
    """Steepness of the surrogate."""
    range: float = 2.0
    """Input current that ilif and quant_relu map to the highest level D."""
    learn_range: bool = False
    """Learn `range`, one value per layer."""


@dataclass(frozen=True)
class ImageConfig:
    architecture: Literal["spikingformer", "conv"] = "conv"
    """spikingformer: convolutional stem and spiking transformer; conv: whitening and convolution groups."""
    image_size: int = 32
    """Side of the square input, pixels (32 to 224)."""
    event_frames: int | None = None
    """Frames that an event recording is summed into: T, one a time step, or 1, shown at every step; null: pictures."""
    widths: tuple[int, ...] = (64, 256, 256)
    """conv: channels of each group. spikingformer: channels of the five stem convolutions."""
    depth: int = 0
    """Transformer blocks; conv appends them after its groups."""
    num_heads: int = 8
    """Attention heads of each block."""
    mlp_ratio: int = 4
    """Hidden width of a block's MLP, in multiples of its width."""
    published: bool = False
    """The published maths: raw time weights for exactly T steps, attention scale 0.125, unscaled initialisation."""
    mean: tuple[float, float, float] = (0.4914, 0.4822, 0.4465)
    """Channel means subtracted from pictures in [0, 1]."""
    std: tuple[float, float, float] = (0.2470, 0.2435, 0.2616)
    """Channel standard deviations that pictures are divided by."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input as data holds it, uint8: (H, W, 3), or of a recording (H, W, 2) or (H, W, T, 2)."""
        side = (self.image_size, self.image_size)
        if self.event_frames is None:
            return *side, 3
        return (*side, 2) if self.event_frames == 1 else (*side, self.event_frames, 2)

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel of values in [0, 1]; counts of events stay counts."""
        return (self.mean, self.std) if self.event_frames is None else ((0.0, 0.0), (1 / 255, 1 / 255))


@dataclass(frozen=True)
class TextConfig:
    architecture: Literal["mlp", "transformer"] = "transformer"
    """mlp: the published tower on a fixed number of tokens; transformer: spiking blocks that mask padding."""
    vocab_size: int = 49408
    """Entries of the token embedding."""
    context_length: int = 77
    """Longest text, in tokens (mlp: exactly this many are read)."""
    width: int = 256
    """Channels of the residual stream (mlp: of the embedding)."""
    depth: int = 2
    """Transformer blocks."""
    num_heads: int = 4
    """Attention heads of each block."""
    mlp_ratio: int = 4
    """Hidden width of a block's MLP in multiples of `width` (mlp: of embed_dim)."""
    eos_id: int = 49407
    """Token that ends a text; everything after the first one is padding."""


@dataclass(frozen=True)
class ModelConfig:
    name: str = "spikeclip-tiny"
    """Preset this configuration started from."""
    embed_dim: int = 512
    """Dimension of the shared embedding space (the teacher's)."""
    neuron: NeuronConfig = field(default_factory=NeuronConfig)
    """Every neuron of both towers."""
    image: ImageConfig = field(default_factory=ImageConfig)
    """Image tower."""
    text: TextConfig = field(default_factory=TextConfig)
    """Text tower."""


@dataclass(frozen=True)
class DataConfig:
    source: str | list[str] = "shapes"
    """`shapes` (built in), a name of `spikeclip data list`, a folder, a data set on the hub; or a list of them."""
    train_split: str = "train"
    """Split used for training and, where the source has no validation split of its own, for selection."""
    test_split: str | None = "test"
    """Split reported once, at the end; null for none."""
    val_fraction: float = 0.1
    """Share of the training split (without a validation split), and of the texts that name no class, for selection."""
    limit: int | None = None
    """Use only this many training pictures of each source; null for all."""
    classnames: dict[str, str] = field(default_factory=dict)
    """Class names to replace before they meet a prompt, old name: new name."""
    withhold: list[str] = field(default_factory=list)
    """Classes, by their new names, whose pictures no stage sees; `evaluate --task open_vocabulary` asks about them."""
    templates: list[str] = field(default_factory=lambda: ["a photo of a {c}."])
    """Prompt templates averaged into one class embedding; {c} is the class name."""
    texts: str | None = None
    """Where align_text finds its texts: null (captions and prompts of the data) or a file, one text a line."""
    cache: str = "~/.cache/spikeclip"
    """Folder for decoded pictures and teacher embeddings."""


@dataclass(frozen=True)
class TeacherConfig:
    path: str | list[str] | None = None
    """Folder or hub name of a CLIP-like model or sentence encoder; or .npz tables of embeddings, one or a list."""
    encoder: str | None = None
    """Sentence encoder that speaks for texts which the tables lack, its space mapped into theirs; null for none."""
    logit_scale: float | None = None
    """Temperature of the teacher's distribution in the KL term; null for the teacher's own."""


@dataclass(frozen=True)
class AugmentConfig:
    crop: int = 2
    """Random crop after reflecting this many pixels on each side."""
    flip: Literal["none", "random", "alternate"] = "alternate"
    """Horizontal flips: none, at random, or every picture in every second epoch."""
    cutout: int = 0
    """Side of a random square set to the mean, pixels."""


@dataclass(frozen=True)
class OptimizerConfig:
    kind: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for hidden matrices and filters, AdamW for the rest; adamw for everything."""
    lr: float = 1e-3
    """Peak learning rate (muon: of the matrices and filters)."""
    scalar_lr: float = 0.02
    """muon only: learning rate of everything else."""
    momentum: float = 0.6
    """muon only: Nesterov momentum of the matrices and filters."""
    weight_decay: float = 0.0
    """Decoupled weight decay, as a share of the weight per unit of learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Decay after the warm-up, down to `final` times the peak."""
    warmup: float = 0.05
    """Share of the steps with linearly rising learning rate."""
    final: float = 0.0
    """Learning rate at the end, as a share of the peak."""
    clip_norm: float | None = None
    """Largest gradient norm; null for no clipping."""


@dataclass(frozen=True)
class LossConfig:
    cosine: float = 1.0
    """1 - cos to the teacher's embedding (paper: 1, all other alignment terms 0)."""
    interactive: float = 0.0
    """Interactive contrastive: student features against the teacher's of the other modality."""
    relational: float = 0.0
    """Relational KL: the student's similarities within a batch against the teacher's."""
    texts: float = 0.0
    """align_image: KL to the target's distribution over all texts the teacher knows; both at the teacher's scale."""
    ce: float = 1.0
    """Cross-entropy over the class prompts."""
    prototype: float = 0.0
    """align_image: cross-entropy over the teacher's class prototypes (a class without one: its prompts)."""
    kl: float = 1.0
    """KL to the teacher's distribution over the class prompts."""
    keep: float = 0.0
    """finetune: KL to what the network said of the picture before this stage, over all texts the teacher knows."""
    temperature: float = 1.0
    """Temperature of both distributions in the KL term; the term is multiplied by its square."""
    label_smoothing: float = 0.0
    """Label smoothing of the cross-entropy."""
    contrastive: Literal["infonce", "sigmoid"] = "infonce"
    """Loss of the contrastive stage."""
    rate: float = 0.0
    """Weight of the firing-rate regulariser: mean over synapses of relu(rate - target_rate)."""
    target_rate: float = 0.0
    """Mean spikes per neuron and time step above which a layer is penalised."""


@dataclass(frozen=True)
class TargetConfig:
    image: float = 1.0
    """The teacher's embedding of the picture itself."""
    prototype: float = 0.0
    """The class prototype: the teacher's own, else the mean of its embeddings of the class's training pictures."""
    text: float = 0.0
    """The teacher's embedding of a caption or of a class prompt, drawn anew each time."""


@dataclass(frozen=True)
class StageConfig:
    stage: StageKind = "align_image"
    """align_text, align_image, finetune or contrastive."""
    epochs: int = 10
    """Passes over the stage's data."""
    batch_size: int = 256
    """Samples per step over all processes."""
    share: float = 1.0
    """Share of the training samples that the stage uses, drawn by the seed; a smaller one is part of a larger one."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser and schedule."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Weights of the terms; a stage reads the ones it has."""
    target: TargetConfig = field(default_factory=TargetConfig)
    """align_image: weights of what a picture is aligned to; without any of it, the first it has in this order."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of the pictures."""
    relu_first: float = 0.0
    """Share of the steps in which ilif and quant_relu are still a ReLU (no effect on relu)."""
    int8_weights: bool = False
    """Round the weights that read spikes to int8 in every pass, as the engine does: for the last stage of a network."""
    logit_scale: float | None = None
    """Fixed factor on the student's cosine similarities; null learns it, starting from the model's."""


@dataclass(frozen=True)
class RunConfig:
    model: dict[str, Any] = field(default_factory=lambda: {"name": "spikeclip-tiny"})
    """Preset `name` and overrides, as for `create_model`; or `pretrained`, a folder to start from."""
    data: DataConfig = field(default_factory=DataConfig)
    """Pictures, captions and class prompts."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """Teacher of the alignment stages and of the KL term."""
    stages: list[StageConfig] = field(default_factory=list)
    """Stages, in order; each starts from the weights selected in the one before."""
    seed: int = 0
    """Seed of weights, data order and augmentation."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast of matrix products: auto is bf16 where the processor has it. Membranes are fp32 always."""
    compile: bool = False
    """Compile the towers with torch.compile; not together with loss.rate."""
    tokenizer: str = "auto"
    """auto (the teacher's, or trained on the run's texts), or a tokenizer.json."""
    vocab_size: int = 2048
    """Size of a tokenizer trained on the run's texts."""
    checkpoint_minutes: float = 5.0
    """Longest time between checkpoints."""


Config = TypeVar("Config")


def from_dict(cls: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """Build a config dataclass from nested plain values (YAML or JSON), checking names and types.

    Raises `InputError` that names the key, the value that came and what was expected.
    """
    hints = typing.get_type_hints(cls)
    if not isinstance(values, Mapping):
        raise InputError(f"{where or cls.__name__}: expected a table of settings, got {values!r}")
    for key in values:
        if key not in hints:
            raise unknown(f"key in {where or 'the recipe'}", str(key), hints)
    return cls(**{k: _convert(hints[k], v, f"{where}.{k}" if where else k) for k, v in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        choices = [a for a in args if a is not type(None)]
        listed = isinstance(value, (list, tuple))
        fitting = (a for a in choices if (typing.get_origin(a) is list) == listed)
        return _convert(next(fitting, choices[0]), value, where)
    if origin is Literal:
        if value not in args:
            raise unknown(f"value of {where}", str(value), map(str, args))
        return value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)  # type: ignore[arg-type]
    if origin is list and isinstance(value, (list, tuple)):
        return [_convert(args[0], v, f"{where}.{i}") for i, v in enumerate(value)]
    if origin is tuple and isinstance(value, (list, tuple)):
        if args[-1] is not Ellipsis and len(args) != len(value):
            raise InputError(f"{where}: expected {len(args)} values, got {list(value)}")
        return tuple(_convert(args[0], v, f"{where}.{i}") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise InputError(f"{where}: expected {getattr(origin or hint, '__name__', hint)}, got {value!r}")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config dataclass as nested plain values; `from_dict` reads them back."""
    return dataclasses.asdict(config)


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
        embed_dim=_convert(int, overrides.get("embed_dim", config.embed_dim), "embed_dim"),
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


def check(config: ModelConfig) -> None:
    """Raise `InputError` where the parts of a model configuration do not fit each other."""
    neuron, image, text = config.neuron, config.image, config.text
    if neuron.kind in ("relu", "quant_relu") and neuron.T != 1:
        raise InputError(
            f"neuron={neuron.kind} has no time: use T=1, not T={neuron.T} "
            "(quant_relu with D = T x D levels is the twin of a spiking network with T steps)"
        )
    for name, value, least in (
        ("T", neuron.T, 1),
        ("D", neuron.D, 1),
        ("embed_dim", config.embed_dim, 1),
        ("image.widths", min(image.widths, default=1), 1),
        ("image.depth", image.depth, 0),
        ("image.mlp_ratio", image.mlp_ratio, 1),
        ("text.width", text.width, 1),
        ("text.depth", text.depth, 0),
        ("text.mlp_ratio", text.mlp_ratio, 1),
    ):
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    if image.event_frames not in (None, 1, neuron.T):
        raise InputError(
            f"image.event_frames must be T, one frame a time step, or 1, shown at every step; "
            f"got {image.event_frames} with T={neuron.T}"
        )
    if not 0 <= text.eos_id < text.vocab_size:
        raise InputError(f"text.eos_id {text.eos_id} is outside a vocabulary of {text.vocab_size} tokens")
    if neuron.tau <= 1:
        raise InputError(f"tau must be above 1 time step, got {neuron.tau}")
    if neuron.range <= 0 or neuron.alpha <= 0:
        raise InputError(f"range and alpha must be above 0, got range={neuron.range}, alpha={neuron.alpha}")
