"""What a model is made of: one dataclass per part, a one-line doc under every field."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from typing import Annotated, Literal

from spikeclip.config.ranges import Range, check_ranges
from spikeclip.errors import InputError

NeuronKind = Literal["lif", "plif", "ilif", "relu", "quant_relu"]
TWINS = ("relu", "quant_relu")
"""Neurons of ordinary networks, which do not spike."""
Surrogate = Literal["sigmoid", "atan", "rectangular"]

# Wide enough for every network that one machine can run, and too small to fill its memory by a typing error.
Steps = Annotated[int, Range(1, 1024)]
Levels = Annotated[int, Range(1, 255)]  # as a graph has them: the engine keeps a level in a byte
Tau = Annotated[float, Range(1, 1_000_000, low_open=True)]
Positive = Annotated[float, Range(0, 10_000, low_open=True)]
Current = Annotated[float, Range(1e-3, 10_000)]
Membrane = Annotated[float, Range(-10_000, 10_000)]
Side = Annotated[int, Range(32, 300)]
Width = Annotated[int, Range(1, 8192)]
Depth = Annotated[int, Range(0, 128)]
Heads = Annotated[int, Range(1, 256)]
Ratio = Annotated[int, Range(1, 32)]
Mean = Annotated[float, Range(-10, 10)]
Deviation = Annotated[float, Range(1e-3, 10)]
Dimension = Annotated[int, Range(1, 8192)]
_NAME = 100


@dataclass(frozen=True)
class NeuronConfig:
    kind: NeuronKind = "ilif"
    """lif, plif (learnable tau), ilif (integer levels), or the twins relu and quant_relu."""
    T: Steps = 1
    """Time steps. The twins run at T=1."""
    D: Levels = 4
    """Integer levels of ilif and quant_relu: activations are 0, 1/D, ..., 1."""
    tau: Tau = 2.0
    """Membrane time constant of lif (and the start of plif), in steps; ilif decays by 1 - 1/tau."""
    v_threshold: Positive = 1.0
    """Firing threshold of lif and plif."""
    v_reset: Membrane | None = 0.0
    """Membrane after a spike of lif and plif; null for soft reset (subtract the threshold)."""
    detach_reset: bool = True
    """Cut the gradient through the reset."""
    surrogate: Surrogate = "sigmoid"
    """Derivative that stands in for the step function of lif and plif."""
    alpha: Positive = 4.0
    """Steepness of the surrogate."""
    range: Current = 2.0
    """Input current that ilif and quant_relu map to the highest level D."""
    learn_range: bool = False
    """Learn `range`, one value per layer."""
    first_D: tuple[Levels, ...] = ()
    """Levels of the image tower's first ilif or quant_relu neurons, in their order; the others have D."""
    first_range: tuple[Current, ...] = ()
    """Ranges of the same neurons, in their order; the others have `range`."""

    def __post_init__(self) -> None:
        check_ranges(self, "neuron.")


@dataclass(frozen=True)
class ImageFormat:
    """What a picture is before normalisation: uint8 of (image_size, image_size, 3), or an event recording's counts."""

    image_size: int = 32
    """Side of the square, pixels."""
    event_frames: int | None = None
    """Frames that an event recording is summed into, 1 or T; None for pictures."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3), or of a recording (H, W, 2) for one frame and (H, W, event_frames, 2) for several."""
        side = (self.image_size, self.image_size)
        if self.event_frames is None:
            return *side, 3
        return (*side, 2) if self.event_frames == 1 else (*side, self.event_frames, 2)


@dataclass(frozen=True)
class ImageConfig:
    architecture: Literal["spikingformer", "conv", "separable"] = "conv"
    """spikingformer: convolutional stem and spiking transformer; conv: whitening and convolution groups; separable:
    the inverted residual blocks of EfficientNet-Lite."""
    image_size: Side = 32
    """Side of the square input, pixels (32 to 300)."""
    event_frames: Steps | None = None
    """Frames that an event recording is summed into: T, one a time step, or 1, shown at every step; null: pictures."""
    widths: tuple[Width, ...] = (64, 256, 256)
    """conv: channels of each group. spikingformer: channels of the five stem convolutions. separable: channels of the
    stem, the seven stages and the head."""
    repeats: tuple[Depth, ...] = ()
    """separable: blocks of each of the seven stages."""
    depth: Depth = 0
    """Transformer blocks; conv appends them after its groups, separable has none."""
    num_heads: Heads = 8
    """Attention heads of each block."""
    mlp_ratio: Ratio = 4
    """Hidden width of a block's MLP, in multiples of its width."""
    published: bool = False
    """The published maths: raw time weights for exactly T steps, attention scale 0.125, unscaled initialisation."""
    mean: tuple[Mean, Mean, Mean] = (0.4914, 0.4822, 0.4465)
    """Channel means subtracted from pictures in [0, 1]."""
    std: tuple[Deviation, Deviation, Deviation] = (0.2470, 0.2435, 0.2616)
    """Channel standard deviations that pictures are divided by."""

    def __post_init__(self) -> None:
        check_ranges(self, "image.")

    @property
    def format(self) -> ImageFormat:
        """The pictures that the tower reads."""
        return ImageFormat(self.image_size, self.event_frames)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input as data holds it, uint8: (H, W, 3), or of a recording (H, W, 2) or (H, W, T, 2)."""
        return self.format.shape

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel of values in [0, 1]; counts of events stay counts."""
        return (self.mean, self.std) if self.event_frames is None else ((0.0, 0.0), (1 / 255, 1 / 255))


@dataclass(frozen=True)
class TextConfig:
    architecture: Literal["mlp", "transformer"] = "transformer"
    """mlp: the published tower on a fixed number of tokens; transformer: spiking blocks that mask padding."""
    vocab_size: Annotated[int, Range(1, 2_000_000)] = 49408
    """Entries of the token embedding."""
    context_length: Annotated[int, Range(3, 8192)] = 77
    """Longest text, in tokens (mlp: exactly this many are read)."""
    width: Width = 256
    """Channels of the residual stream (mlp: of the embedding)."""
    depth: Depth = 2
    """Transformer blocks."""
    num_heads: Heads = 4
    """Attention heads of each block."""
    mlp_ratio: Ratio = 4
    """Hidden width of a block's MLP in multiples of `width` (mlp: of embed_dim)."""
    eos_id: Annotated[int, Range(0)] = 49407
    """Token that ends a text; everything after the first one is padding."""

    def __post_init__(self) -> None:
        check_ranges(self, "text.")


@dataclass(frozen=True)
class ModelConfig:
    name: str = "spikeclip-tiny"
    """Preset this configuration started from."""
    embed_dim: Dimension = 512
    """Dimension of the shared embedding space (the teacher's)."""
    neuron: NeuronConfig = field(default_factory=NeuronConfig)
    """Every neuron of both towers."""
    image: ImageConfig = field(default_factory=ImageConfig)
    """Image tower."""
    text: TextConfig = field(default_factory=TextConfig)
    """Text tower."""

    def __post_init__(self) -> None:
        check_ranges(self)


def check(config: ModelConfig) -> None:
    """Raise `InputError` where the parts of a model configuration do not fit each other."""
    neuron, image, text = config.neuron, config.image, config.text
    if neuron.kind in TWINS and neuron.T != 1:
        raise InputError(
            f"neuron={neuron.kind} has no time: use T=1, not T={neuron.T} "
            "(quant_relu with D = T x D levels is the twin of a spiking network with T steps)"
        )
    if image.event_frames not in (None, 1, neuron.T):
        raise InputError(
            f"image.event_frames must be T, one frame a time step, or 1, shown at every step; "
            f"got {image.event_frames} with T={neuron.T}"
        )
    if not 0 <= text.eos_id < text.vocab_size:
        raise InputError(f"text.eos_id {text.eos_id} is outside a vocabulary of {text.vocab_size} tokens")
    if not (config.name.isprintable() and len(config.name) <= _NAME):
        raise InputError(
            f"name must be a line of at most {_NAME} characters, got {reprlib.repr(config.name)}"
        )
