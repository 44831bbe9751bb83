"""What the stages of a run share: pictures, texts, tokens and the teacher's embeddings of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.config import ImageFormat, RunConfig
from spikeclip.data.mixture import class_keys, join, split_sources
from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import build_prompts, text_key
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.errors import InputError
from spikeclip.files import read_lines
from spikeclip.teacher import Teacher, cached_image_embeddings, cached_text_embeddings, open_teacher
from spikeclip.teacher.bridge import bridged_text_embeddings

FEW_TEXTS = 40
"""With fewer texts that are no class prompt none is held out."""


@dataclass
class Material:
    """Everything a stage reads. N texts, D teacher dimensions, K classes that occur in training.

    text_of[split]: (pictures, most texts of one picture) rows of `texts`, padded with -1. known_texts: rows of the
    texts that the teacher itself embeds. held_texts: rows of those that `align_text` does not learn (all rows
    where texts are few). class_prompts: of each class the prompts that can be embedded.
    teacher_images[split]: the teacher's unit embedding of each picture (pictures, D), NaN where it has none, or None
    where it has none at all. prototypes_KD: the same of the classes.
    """

    config: RunConfig
    pictures: dict[str, Pictures]
    tokenizer: Tokenizer
    texts: list[str]
    text_of: dict[str, Tensor]
    known_texts: Tensor
    held_texts: Tensor
    class_prompts: list[list[str]]
    labels: dict[str, Tensor]
    teacher_texts_ND: Tensor | None
    teacher_images: dict[str, Tensor | None]
    prototypes_KD: Tensor | None
    teacher_scale: float
    embed_dim: int | None

    @property
    def teacher_classes_KD(self) -> Tensor:
        """The teacher's class embeddings: each prompt normalised, averaged, normalised again; NaN without any."""
        assert self.teacher_texts_ND is not None
        row = {text: i for i, text in enumerate(self.texts)}
        means = [self.teacher_texts_ND[[row[p] for p in prompts]].mean(0) for prompts in self.class_prompts]
        return F.normalize(torch.stack(means), dim=-1)

    @property
    def prompt_rows(self) -> Tensor:
        """Rows of the class prompts among the texts."""
        asked = {prompt for prompts in self.class_prompts for prompt in prompts}
        return torch.tensor([i for i, text in enumerate(self.texts) if text in asked], dtype=torch.long)

    @property
    def class_targets_KD(self) -> Tensor:
        """The teacher's class prototypes; of a class without one its text embedding."""
        texts_KD = self.teacher_classes_KD
        return texts_KD if self.prototypes_KD is None else known_or(self.prototypes_KD, texts_KD)


def gather_material(
    config: RunConfig, image_size: int, device: str = "cpu", event_frames: int | None = None
) -> Material:
    """Load pictures, texts and teacher of a run. A live teacher embeds once, on `device`; what it made is stored."""
    data, cache = config.data, Path(config.data.cache).expanduser()
    trains, vals = split_sources(data, ImageFormat(image_size, event_frames), config.seed)
    parts = {"train": trains, "val": vals}
    pictures = {split: join(own) for split, own in parts.items()}
    train = pictures["train"]
    teacher = open_teacher(config.teacher.path, device=device) if config.teacher.path else None

    images: dict[str, Tensor | None] = {"train": None, "val": None}
    if teacher is not None:
        images = {split: _images(teacher, own, cache) for split, own in parts.items()}
    present = np.unique(train.labels) if train.labels is not None else np.empty(0, np.int64)
    labels = {
        split: torch.empty(0)
        if part.labels is None
        else torch.from_numpy(np.searchsorted(present, part.labels))
        for split, part in pictures.items()
    }
    names = [train.classnames[i] for i in present]
    prototypes = None
    if teacher is not None and names:
        keys = class_keys(data, trains)
        found_KD = teacher.find_classes([keys[text_key(name)] for name in names])
        prototypes = _prototypes(torch.from_numpy(found_KD), images["train"], labels["train"])

    class_prompts = build_prompts(names, data.templates) if names else []
    if teacher is not None and not config.teacher.encoder:
        told = prototypes.isfinite().all(1).tolist() if prototypes is not None else [False] * len(names)
        class_prompts = [  # what nothing but prompts can tell must be known: `embed_texts` says what is not
            [p for p in prompts if teacher.knows(p)] if has_prototype else prompts
            for prompts, has_prototype in zip(class_prompts, told, strict=True)
        ]
    prompts = [p for group in class_prompts for p in group]
    texts = list(dict.fromkeys(prompts + _other_texts(config, pictures, teacher)))
    if not texts:
        raise InputError(
            f"{train.name} has neither class names nor captions: there are no texts to train with"
        )
    row = {text: i for i, text in enumerate(texts)}
    text_of = {}
    for split, part in pictures.items():
        own = part.captions or [class_prompts[label] for label in labels[split].tolist()]
        text_of[split] = _ragged([[row[text] for text in group] for group in own])
        if part.captions and (text_of[split] < 0).all(1).any():
            raise InputError("a picture without any text: every picture needs a caption or a class name")
    known = torch.tensor(
        [i for i, text in enumerate(texts) if teacher is None or teacher.knows(text)], dtype=torch.long
    )
    held = _held_texts(texts, known, prompts, config)
    text_embeddings = None
    if teacher is not None:
        text_embeddings = torch.from_numpy(_embed_texts(teacher, texts, known, held, config, device))
    return Material(
        config=config,
        pictures=pictures,
        tokenizer=_tokenizer(config, teacher, texts),
        texts=texts,
        text_of=text_of,
        known_texts=known,
        held_texts=held,
        class_prompts=class_prompts,
        labels=labels,
        teacher_texts_ND=text_embeddings,
        teacher_images=images,
        prototypes_KD=prototypes,
        teacher_scale=config.teacher.logit_scale or (teacher.logit_scale if teacher else 100.0),
        embed_dim=teacher.dim if teacher else None,
    )


def _held_texts(texts: list[str], known: Tensor, prompts: list[str], config: RunConfig) -> Tensor:
    """Rows of the texts to validate on: a share of those the teacher knows that are no class prompt."""
    asked = {text_key(prompt) for prompt in prompts}
    free = torch.tensor([i for i in known.tolist() if text_key(texts[i]) not in asked])
    if len(free) < FEW_TEXTS:
        return torch.arange(len(texts))
    order = torch.randperm(len(free), generator=torch.Generator().manual_seed(config.seed))
    return free[order[: round(config.data.val_fraction * len(free))]].sort().values


def _embed_texts(
    teacher: Teacher, texts: list[str], known: Tensor, held: Tensor, config: RunConfig, device: str
) -> np.ndarray:
    cache = Path(config.data.cache).expanduser()
    if not config.teacher.encoder:
        return np.array(cached_text_embeddings(teacher, texts, cache), np.float32)
    encoder = open_teacher(config.teacher.encoder, device=device)
    learned = [texts[i] for i in known[~torch.isin(known, held)].tolist()]  # what is held out teaches no one
    return bridged_text_embeddings(teacher, encoder, texts, learned, cache)


def known_or(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """Return the rows of `a_ND`, and where one is NaN that of `b_ND`."""
    return torch.where(a_ND.isnan(), b_ND, a_ND)


def _images(teacher: Teacher, parts: list[Pictures], cache: Path) -> Tensor | None:
    find = (
        partial(cached_image_embeddings, teacher, cache=cache)
        if teacher.image_format
        else teacher.find_images
    )
    found_ND = torch.cat([torch.from_numpy(np.array(find(part), np.float32)) for part in parts])
    return None if found_ND.isnan().all() else found_ND


def _prototypes(found_KD: Tensor, images_ND: Tensor | None, labels_N: Tensor) -> Tensor | None:
    """The teacher's own prototypes, else the mean of a class's training pictures."""
    if images_ND is not None:
        known_N = images_ND.isfinite().all(1)
        sums_KD = torch.zeros_like(found_KD).index_add_(0, labels_N[known_N], images_ND[known_N])
        means_KD = sums_KD / sums_KD.norm(dim=1, keepdim=True)  # NaN, 0 / 0, where there is none
        found_KD = known_or(found_KD, means_KD)
    return None if found_KD.isnan().all() else found_KD


def _other_texts(config: RunConfig, pictures: dict[str, Pictures], teacher: Teacher | None) -> list[str]:
    texts = [text for part in pictures.values() for group in part.captions or [] for text in group]
    if config.data.texts:
        texts += read_lines(Path(config.data.texts))
    return texts + list(getattr(teacher, "texts", None) or [])


def _tokenizer(config: RunConfig, teacher: Teacher | None, texts: list[str]) -> Tokenizer:
    if config.tokenizer != "auto":
        return Tokenizer.load(config.tokenizer)
    if teacher is not None and teacher.tokenizer_file is not None:
        return Tokenizer.load(teacher.tokenizer_file)
    return Tokenizer.train(texts, config.vocab_size)


def _ragged(rows: list[list[int]]) -> Tensor:
    width = max([1, *map(len, rows)])
    return torch.tensor([row + [-1] * (width - len(row)) for row in rows], dtype=torch.long)
