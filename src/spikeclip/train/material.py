"""What the stages of a run share: pictures, texts, tokens and the teacher's embeddings of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.config import RunConfig
from spikeclip.data.pictures import Pictures, validation_split
from spikeclip.data.prompts import build_prompts
from spikeclip.data.sources import load_pictures
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.errors import InputError
from spikeclip.teacher import Teacher, cached_image_embeddings, cached_text_embeddings


@dataclass
class Material:
    """Everything a stage reads. N texts, D teacher dimensions, K classes that occur in training.

    text_of[split]: (pictures, most texts of one picture) rows of `texts`, padded with -1. images[split]: the
    teacher's unit embedding of each picture (pictures, D), or None for a teacher without an image side.
    """

    config: RunConfig
    pictures: dict[str, Pictures]
    tokenizer: Tokenizer
    texts: list[str]
    text_of: dict[str, Tensor]
    class_prompts: list[list[str]]
    labels: dict[str, Tensor]
    teacher_texts_ND: Tensor | None
    teacher_images: dict[str, Tensor | None]
    teacher_scale: float
    embed_dim: int | None

    @property
    def teacher_classes_KD(self) -> Tensor:
        """The teacher's class embeddings: each prompt normalised, averaged, normalised again."""
        assert self.teacher_texts_ND is not None
        row = {text: i for i, text in enumerate(self.texts)}
        means = [self.teacher_texts_ND[[row[p] for p in prompts]].mean(0) for prompts in self.class_prompts]
        return F.normalize(torch.stack(means), dim=-1)


def gather_material(config: RunConfig, image_size: int, device: str = "cpu") -> Material:
    """Load pictures, texts and teacher of a run; the teacher embeds once, on `device`, and what it made is stored."""
    data, cache = config.data, Path(config.data.cache).expanduser()
    whole = load_pictures(data.source, data.train_split, image_size, cache, data.limit, data.classnames)
    train, val = validation_split(whole, data.val_fraction, config.seed)
    if not len(val):
        raise InputError(
            f"{data.source}: {len(whole)} pictures leave none for validation; raise data.val_fraction"
        )
    pictures = {"train": train, "val": val}

    teacher = Teacher.from_pretrained(config.teacher.path, device=device) if config.teacher.path else None
    present = np.unique(train.labels) if train.labels is not None else np.empty(0, np.int64)
    class_prompts = build_prompts([train.classnames[i] for i in present], data.templates)
    texts = list(
        dict.fromkeys(
            [p for prompts in class_prompts for p in prompts] + _other_texts(config, pictures, teacher)
        )
    )
    if not texts:
        raise InputError(
            f"{data.source} has neither class names nor captions: there are no texts to train with"
        )
    row = {text: i for i, text in enumerate(texts)}

    text_of, labels, images = {}, {}, {}
    for split, part in pictures.items():
        labels[split] = (
            torch.from_numpy(np.searchsorted(present, part.labels))
            if part.labels is not None
            else torch.empty(0)
        )
        own = part.captions or [class_prompts[label] for label in labels[split].tolist()]
        text_of[split] = _ragged([[row[text] for text in group] for group in own])
        images[split] = None
        if teacher is not None and teacher.has_images:
            images[split] = torch.from_numpy(
                np.array(cached_image_embeddings(teacher, part, cache), np.float32)
            )
    text_embeddings = None
    if teacher is not None:
        text_embeddings = torch.from_numpy(
            np.array(cached_text_embeddings(teacher, texts, cache), np.float32)
        )
    return Material(
        config=config,
        pictures=pictures,
        tokenizer=_tokenizer(config, teacher, texts),
        texts=texts,
        text_of=text_of,
        class_prompts=class_prompts,
        labels=labels,
        teacher_texts_ND=text_embeddings,
        teacher_images=images,
        teacher_scale=config.teacher.logit_scale or (teacher.logit_scale if teacher else 100.0),
        embed_dim=teacher.dim if teacher else None,
    )


def _other_texts(config: RunConfig, pictures: dict[str, Pictures], teacher: Teacher | None) -> list[str]:
    texts = [text for part in pictures.values() for group in part.captions or [] for text in group]
    if config.data.texts:
        file = Path(config.data.texts).expanduser()
        if not file.is_file():
            raise InputError(f"data.texts: no such file: {file}")
        texts += [line.strip() for line in file.read_text().splitlines() if line.strip()]
    return texts + list(getattr(teacher, "texts", None) or [])


def _tokenizer(config: RunConfig, teacher: Teacher | None, texts: list[str]) -> Tokenizer:
    if config.tokenizer != "auto":
        return Tokenizer.load(config.tokenizer)
    if teacher is not None and teacher.tokenizer_file is not None:
        return Tokenizer.load(teacher.tokenizer_file)
    return Tokenizer.train(texts, config.vocab_size)


def _ragged(rows: list[list[int]]) -> Tensor:
    width = max((len(row) for row in rows), default=0)
    if any(not row for row in rows):
        raise InputError("a picture without any text: every picture needs a caption or a class name")
    return torch.tensor([row + [-1] * (width - len(row)) for row in rows], dtype=torch.long)
