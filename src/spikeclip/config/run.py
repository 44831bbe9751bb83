"""What a run is made of: one dataclass per concern, a one-line doc under every field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from spikeclip.config.presets import ModelSettings
from spikeclip.config.ranges import Range
from spikeclip.defaults import CACHE, TEMPLATE

StageKind = Literal["align_text", "align_image", "finetune", "contrastive"]
FeedKind = Literal["auto", "resident", "mapped"]
Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0, 1000)]
Scale = Annotated[float, Range(0, 1000, low_open=True)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Epochs = Annotated[int, Range(1, 100_000)]
BatchSize = Annotated[int, Range(1, 1_000_000)]
LearningRate = Annotated[float, Range(0, 1000, low_open=True)]
VocabSize = Annotated[int, Range(259, 1_000_000)]
Minutes = Annotated[float, Range(0, 10_080)]


@dataclass(frozen=True)
class DataConfig:
    source: str | list[str]
    """`shapes` (built in), a name of `spikeclip data list`, a folder, a data set on the hub; or a list of them."""
    train_split: str = "train"
    """Split used for training and, where the source has no validation split, for selection."""
    test_split: str | None = "test"
    """Split reported once, at the end; null for none."""
    val_fraction: Annotated[float, Range(0, 0.5, low_open=True)] = 0.1
    """Share of the training split (without a validation split), and of the texts that name no class, for selection."""
    limit: Annotated[int | None, Range(1, 1_000_000_000)] = None
    """Use only this many training pictures of each source; null for all."""
    classnames: dict[str, str] = field(default_factory=dict)
    """Class names to replace before they meet a prompt, old name: new name."""
    withhold: list[str] = field(default_factory=list)
    """Classes, by their new names, whose pictures no stage sees; `evaluate --task open_vocabulary` tests them."""
    templates: list[str] = field(default_factory=lambda: [TEMPLATE])
    """Prompt templates averaged into one class embedding; {c} is the class name."""
    texts: str | None = None
    """Where align_text finds its texts: null (captions and prompts of the data) or a file, one text a line."""
    cache: str = CACHE
    """Folder for decoded pictures and teacher embeddings."""


@dataclass(frozen=True)
class TeacherConfig:
    path: str | list[str] | None = None
    """Folder or hub name of a CLIP-like model, of a sentence encoder or of a network of ours, such as the twin; or .npz
    tables of embeddings, one or a list, in which an image network (efficientnet-lite0, or a .pth file) may stand for
    the pictures that the tables lack."""
    encoder: str | None = None
    """Sentence encoder for texts that the tables lack, its space mapped into theirs; null for none."""
    readout: str | None = None
    """File of `spikeclip teacher readout`: the linear map by which an image network embeds pictures; null: as the mean
    prototype of its ten most probable classes."""
    logit_scale: Scale | None = None
    """Temperature of the teacher's distribution in the KL term; null for the teacher's logit scale."""


@dataclass(frozen=True)
class AugmentConfig:
    crop: Annotated[int, Range(0, 223)] = 2
    """Random crop after reflecting this many pixels on each side."""
    flip: Literal["none", "random", "alternate"] = "alternate"
    """Horizontal flips: none, at random, or every picture in every second epoch."""
    cutout: Annotated[int, Range(0, 224)] = 0
    """Side of a random square set to the mean, pixels."""
    colour: Annotated[int, Range(0, 8)] = 0
    """RandAugment's colour operations that each picture goes through, drawn anew each time; slow without a GPU."""
    strength: Share = 0.3
    """Strength of the colour operations, a share of RandAugment's largest."""
    mix: Literal["none", "mixup", "cutmix"] = "none"
    """finetune: mix each picture and its targets with another's: mixup is their weighted mean, cutmix a rectangle."""
    mix_share: Share = 0.5
    """Share of the pictures that are mixed; the share of the other picture is uniform."""


@dataclass(frozen=True)
class OptimizerConfig:
    kind: Literal["adamw", "muon", "adafactor"] = "adamw"
    """muon: Muon for hidden matrices and filters, AdamW for the rest; adamw for everything; adafactor: for everything,
    with steps relative to the size of each tensor."""
    lr: LearningRate = 1e-3
    """Peak learning rate (muon: of the matrices and filters; adafactor: in root mean squares of a tensor)."""
    scalar_lr: LearningRate = 0.02
    """muon only: learning rate of everything else."""
    momentum: Annotated[float, Range(0, 1, high_open=True)] = 0.6
    """muon only: Nesterov momentum of the matrices and filters."""
    weight_decay: Annotated[float, Range(0, 10)] = 0.0
    """Decoupled weight decay, as a share of the weight per unit of learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Decay after the warm-up, down to `final` times the peak."""
    warmup: Share = 0.05
    """Share of the steps with linearly rising learning rate."""
    final: Share = 0.0
    """Learning rate at the end, as a share of the peak."""
    clip_norm: Annotated[float | None, Range(0, low_open=True)] = None
    """Largest gradient norm; null for no clipping."""


@dataclass(frozen=True)
class LossConfig:
    cosine: Weight = 1.0
    """1 - cos to the teacher's embedding (paper: 1, all other alignment terms 0)."""
    interactive: Weight = 0.0
    """Interactive contrastive: student features against the teacher's of the other modality."""
    relational: Weight = 0.0
    """Relational KL: the student's similarities within a batch against the teacher's."""
    texts: Weight = 0.0
    """align_image: KL to the target's distribution over all texts the teacher knows; both at the teacher's scale."""
    ce: Weight = 1.0
    """Cross-entropy over the class prompts."""
    prototype: Weight = 0.0
    """align_image: cross-entropy over the teacher's class prototypes (a class without one: its prompts)."""
    kl: Weight = 1.0
    """KL to the teacher's distribution over the class prompts."""
    keep: Weight = 0.0
    """finetune: KL to the network's predictions before this stage, over all texts the teacher knows."""
    temperature: Annotated[float, Range(0, 100, low_open=True)] = 1.0
    """Temperature of both distributions in the KL term; the term is multiplied by its square."""
    label_smoothing: Annotated[float, Range(0, 1, high_open=True)] = 0.0
    """Label smoothing of the cross-entropy."""
    contrastive: Literal["infonce", "sigmoid"] = "infonce"
    """Loss of the contrastive stage."""
    rate: Weight = 0.0
    """Weight of the firing-rate regulariser: mean over layers of relu(rate - target_rate), each weighted by the
    accumulates that its spikes drive. The twins relu and quant_relu have no spikes, and no such term."""
    target_rate: Annotated[float, Range(0)] = 0.0
    """Mean spikes per neuron and time step above which a layer is penalised."""


@dataclass(frozen=True)
class TargetConfig:
    image: Weight = 1.0
    """The teacher's embedding of the picture itself."""
    prototype: Weight = 0.0
    """The class prototype: the teacher's, else the mean of its embeddings of the class's training pictures."""
    text: Weight = 0.0
    """The teacher's embedding of a caption or of a class prompt, drawn anew each time."""


@dataclass(frozen=True)
class StageConfig:
    stage: StageKind
    """align_text, align_image, finetune or contrastive."""
    epochs: Epochs = 10
    """Passes over the stage's data."""
    batch_size: BatchSize = 256
    """Samples per step over all processes."""
    share: Annotated[float, Range(0, 1, low_open=True)] = 1.0
    """Share of the training samples that the stage uses, other ones in each stage, drawn by the seed; a smaller one is
    part of a larger one. `data.limit` is the same for all stages."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser and schedule."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Weights of the terms; a stage reads the ones it has."""
    target: TargetConfig = field(default_factory=TargetConfig)
    """align_image: weights of what a picture is aligned to; without any of it, the first it has in this order."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of the pictures."""
    relu_first: Share = 0.0
    """Share of the steps in which ilif and quant_relu are still a ReLU (no effect on relu)."""
    ema: Annotated[float, Range(0, 1, high_open=True)] = 0.0
    """Validate and keep an exponential moving average of the weights: share of it that a step leaves, fewer in the
    first steps (0.999: over some 1,000 steps); 0 for none."""
    int8_weights: bool = False
    """Round the weights that read spikes to int8 in every pass, as the engine does: for the last stage of a network."""
    recompute_statistics: bool = False
    """Compute BatchNorm's statistics anew before each validation, from 4,096 samples: for batches below 4."""
    fixed_statistics: bool = False
    """Let BatchNorm use the statistics that it has, and keep them: for a converted network, which folded them."""
    select: Literal["best", "last"] = "best"
    """Weights that the stage leaves: best on the validation pictures, or last, which a few of those cannot judge."""
    keep_better: bool = True
    """Keep the weights from before a stage that validates worse than they do (not with loss.rate, which trades it)."""
    logit_scale: Scale | None = None
    """Fixed factor on the student's cosine similarities; null learns it, starting from the model's."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    model: ModelSettings = field(default_factory=lambda: ModelSettings(name="spikeclip-tiny"))
    """Preset `name` and changes, as for `create_model`; or `pretrained`, a folder to start from."""
    data: DataConfig
    """Pictures, captions and class prompts."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """Teacher of the alignment stages and of the KL term."""
    stages: list[StageConfig]
    """Stages, in order; each starts from the weights selected in the one before."""
    seed: Seed = 0
    """Seed of weights, data order and augmentation."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast of matrix products: auto is bf16 where the processor has it. Membranes are fp32 always."""
    feed: FeedKind = "auto"
    """Training pictures: resident (all in the memory of the device) or mapped (a thread reads the next ones); auto is
    resident on a GPU where they take a quarter of its free memory at most."""
    compile: Literal["auto"] | bool = "auto"
    """Compile the towers with torch.compile; auto: on a GPU, where that takes a minute and then saves a third."""
    recompute: Literal["auto"] | bool = "auto"
    """With several time steps, compute activations again in backward instead of keeping them; auto: not on a GPU that
    has room for them. A compiled tower keeps what its compiler likes."""
    tokenizer: str = "auto"
    """auto (the teacher's, or trained on the run's texts), or a tokenizer.json."""
    vocab_size: VocabSize = 2048
    """Size of a tokenizer trained on the run's texts."""
    checkpoint_minutes: Minutes = 5.0
    """Longest time between checkpoints."""


@dataclass(frozen=True)
class TeacherTraining:
    """How `train_teacher` builds and trains a small CLIP."""

    width: Annotated[int, Range(32, 4096)] = 96
    """Channels of both transformers and dimension of the embedding, a multiple of 32."""
    layers: Annotated[int, Range(1, 48)] = 2
    """Layers of both transformers."""
    patch_size: Annotated[int, Range(1, 224)] = 8
    """Side of a patch, pixels; divides the pictures' side."""
    epochs: Epochs = 11
    """Passes over the pictures."""
    batch_size: Annotated[int, Range(2, 1_000_000)] = 96
    """Pairs of picture and text per step over all processes."""
    lr: LearningRate = 1e-3
    """Peak learning rate."""
    seed: Seed = 0
    """Seed of weights, order, captions and augmentation."""
    vocab_size: VocabSize = 2048
    """Entries of the tokenizer."""
    checkpoint_minutes: Minutes = 5.0
    """Longest time between checkpoints."""
