"""What a model is made of: one dataclass per part, a one-line doc under every field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from spikeclip.errors import InputError

NeuronKind = Literal["lif", "plif", "ilif", "relu", "quant_relu"]
Surrogate = Literal["sigmoid", "atan", "rectangular"]


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
    def format(self) -> ImageFormat:
        """What data holds of one input."""
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
