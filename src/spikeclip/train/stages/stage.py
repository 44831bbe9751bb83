"""What a stage is, and what several stages share: texts that are drawn, pictures, and validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from spikeclip.config import StageConfig
from spikeclip.data.draws import Draws
from spikeclip.data.images import Images
from spikeclip.encode.embed import embed_pictures, zero_shot_classifier
from spikeclip.encode.student import Student
from spikeclip.evaluate.zero_shot import zero_shot_metrics
from spikeclip.model import SpikeCLIP
from spikeclip.train.lessons import Lessons
from spikeclip.train.pictures import RunPictures

Batch = dict[str, Tensor]
Model = TypeVar("Model", bound=nn.Module)


class Stage(ABC, Generic[Model]):
    """One stage of a training: what it trains, what a batch is, what it costs and how it is scored.

    config: its settings. seed: of the order of its samples and of all that is drawn for them. towers: those of a
    `SpikeCLIP` that it trains. trains: the parts of the model that learn, each the first word of the names of its
    parameters. samples: pictures or texts of one epoch. images: the pictures of the samples, None where it reads none.
    normalization: mean and standard deviation of each channel. score_name: the name of the validation score in the log.
    """

    needs_teacher: ClassVar[bool] = True
    towers: ClassVar[tuple[str, ...]] = ()
    trains: tuple[str, ...]
    samples: int
    images: Images | None = None
    normalization: tuple[tuple[float, ...], tuple[float, ...]]
    score_name: str

    def __init__(self, config: StageConfig, seed: int) -> None:
        self.config, self.seed = config, seed

    @classmethod
    def check(cls, config: StageConfig, pictures: RunPictures, lessons: Lessons) -> None:
        """Raise `InputError` where the run lacks something else than a teacher that the stage needs."""

    @classmethod
    def count(cls, pictures: RunPictures, lessons: Lessons) -> int:
        """Return the `samples` of the stage in a run."""
        return len(pictures.splits["train"])

    @abstractmethod
    def batch(self, indices_B: Tensor, epoch: int) -> tuple[Batch, Batch]:
        """Return what the model reads of these samples but for their pictures, and what the loss compares with.

        indices_B: from 0 to `samples` - 1. Every tensor is on the CPU and has a row for each sample, which depends on
        the seed, the epoch and the sample's index alone, but for columns of padding. Targets are of equal width in all
        batches. `Feed` adds the pictures to the inputs, as "images".
        """

    @abstractmethod
    def features(self, model: Model, inputs: Batch) -> Batch:
        """Return the model's embeddings of the inputs, (B, D) each."""

    @abstractmethod
    def loss(self, model: Model, features: Batch, targets: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss, by name; features and targets are of the whole batch of all processes."""

    @abstractmethod
    def score(self, model: Model) -> float:
        """Return the validation score; larger is better."""

    def mix(self, targets: Batch, others: Batch, share_B: Tensor) -> Batch:
        """Return the targets of mixed samples, `share_B` (B,) of which is their own, where a stage can mix them."""
        raise NotImplementedError

    def after_step(self, model: Model) -> None:
        """Bring back weights that an optimiser's step moved out of their range; most stages have none."""


def draw_text(text_of_NM: Tensor, draws: Draws) -> Tensor:
    """Return one text of each picture, drawn from its row (B,); -1 where it has none.

    text_of_NM: rows of the texts of each picture, padded at the end with -1.
    """
    rows_BM = text_of_NM[draws.indices_B]
    place_B = (draws.uniform("text") * (rows_BM >= 0).sum(1)).long()
    return rows_BM.gather(1, place_B[:, None])[:, 0]


def encode_pictures(model: SpikeCLIP, inputs: Batch) -> Batch:
    """Return the unit embeddings of a batch of pictures, as the features of a stage."""
    return {"image": model.encode_image(inputs["images"], normalize=True)}


def encode_texts(model: SpikeCLIP, tokens_NL: Tensor) -> Tensor:
    """Return the unit embeddings (N, D) of any number of texts, on the CPU."""
    device = model.log_scale.device
    return torch.cat(
        [model.encode_text(chunk.to(device), normalize=True).cpu() for chunk in tokens_NL.split(512)]
    )


def embed_split(model: SpikeCLIP, pictures: RunPictures, split: str, progress: bool = False) -> Tensor:
    """Return the unit embeddings (N, D) of the pictures of a split as they are, on the CPU."""
    return torch.from_numpy(embed_pictures(Student(model), pictures.splits[split], progress=progress))


def embed_classes(model: SpikeCLIP, pictures: RunPictures, lessons: Lessons) -> Tensor:
    """Return the model's embeddings (K, D) of the classes that occur in training, on the CPU."""
    return torch.from_numpy(zero_shot_classifier(Student(model), pictures.classnames, lessons.templates))


def accuracy(images_ND: Tensor, labels_N: Tensor, classes_KD: Tensor) -> float:
    """Return the share of pictures whose nearest class is theirs."""
    return zero_shot_metrics(images_ND.numpy(), labels_N.numpy(), classes_KD.cpu().numpy())["acc1"]


def trim(tokens_BL: Tensor, eos_id: int) -> Tensor:
    """Drop the columns that are padding in every row; every text ends in `eos_id`."""
    return tokens_BL[:, : int((tokens_BL == eos_id).int().argmax(1).max()) + 1]
