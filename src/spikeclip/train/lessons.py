"""What a run learns besides its pictures: texts, and the teacher's embeddings of texts, pictures and classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.config import RunConfig
from spikeclip.data.mixture import class_keys
from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import build_prompts, text_key
from spikeclip.data.readers.listing import listed
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.errors import InputError
from spikeclip.files import read_lines
from spikeclip.teacher import Teacher, cached_text_embeddings, open_teacher, teacher_image_embeddings
from spikeclip.teacher.bridge import bridged_text_embeddings
from spikeclip.teacher.folder import combined
from spikeclip.train.pictures import RunPictures

FEW_TEXTS = 40
"""With fewer texts that are no class prompt none is held out."""


@dataclass(frozen=True)
class Lessons:
    """The texts of a run and its teacher's embeddings. N texts, D teacher dimensions, K classes of training.

    text_of[split]: (pictures, most texts of one picture) rows of `texts`, padded with -1. class_prompts: of each
    class the prompts that can be embedded, from `templates`. known_texts: rows of the texts that the teacher itself
    embeds. held_texts: rows of those that `align_text` does not learn (all rows where texts are few). tokenizer: the
    teacher's, the recipe's or one trained on the texts.

    Embeddings have unit length. teacher_texts_ND: None without a teacher. teacher_images[split]: (pictures, D), NaN
    where the teacher has none, None where it has none at all; so prototypes_KD of the classes. teacher_scale: factor
    on the teacher's cosines. fingerprint: hash of texts, tokenizer and of what the teacher is, not of its embeddings,
    whose last bits are other on another machine.
    """

    texts: list[str]
    text_of: dict[str, Tensor]
    templates: list[str]
    class_prompts: list[list[str]]
    known_texts: Tensor
    held_texts: Tensor
    tokenizer: Tokenizer
    teacher_texts_ND: Tensor | None
    teacher_images: dict[str, Tensor | None]
    prototypes_KD: Tensor | None
    teacher_scale: float
    fingerprint: str

    @property
    def embed_dim(self) -> int | None:
        """Dimension of the teacher's embeddings, None without a teacher."""
        return None if self.teacher_texts_ND is None else self.teacher_texts_ND.shape[1]

    @property
    def teacher_classes_KD(self) -> Tensor:
        """The teacher's class embeddings: each prompt normalised, averaged, normalised again; NaN without any."""
        assert self.teacher_texts_ND is not None
        row = {text: i for i, text in enumerate(self.texts)}
        means = [self.teacher_texts_ND[[row[p] for p in prompts]].mean(0) for prompts in self.class_prompts]
        return F.normalize(torch.stack(means), dim=-1)

    @property
    def class_targets_KD(self) -> Tensor:
        """The teacher's class prototypes; of a class without one its text embedding."""
        texts_KD = self.teacher_classes_KD
        return texts_KD if self.prototypes_KD is None else known_or(self.prototypes_KD, texts_KD)

    @property
    def prompt_rows(self) -> Tensor:
        """Rows of the class prompts among the texts."""
        prompts = {prompt for group in self.class_prompts for prompt in group}
        return torch.tensor([i for i, text in enumerate(self.texts) if text in prompts], dtype=torch.long)


def gather_lessons(config: RunConfig, pictures: RunPictures, device: str = "cpu") -> Lessons:
    """Collect the texts of a run and embed them and its pictures with its teacher, once: embeddings are stored.

    device: where a teacher that is a network runs. Raises `InputError` for data without texts, a picture without
    any, and a text that the teacher cannot embed.
    """
    taught = config.teacher
    teacher = open_teacher(taught.path, device=device, readout=taught.readout) if taught.path else None
    cache = Path(config.data.cache).expanduser()
    images: dict[str, Tensor | None] = {
        split: None if teacher is None else _image_embeddings(teacher, parts, cache)
        for split, parts in pictures.sources.items()
    }
    prototypes_KD = None if teacher is None else _prototypes(teacher, config, pictures, images["train"])
    class_prompts = _class_prompts(config, pictures, teacher, prototypes_KD)
    prompts = [prompt for group in class_prompts for prompt in group]
    texts = list(dict.fromkeys(prompts + _other_texts(config, pictures, teacher)))
    if not texts:
        raise InputError(
            f"{pictures.splits['train'].name} has neither class names nor captions: "
            "there are no texts to train with"
        )
    text_of = _text_rows(texts, class_prompts, pictures)
    known = [i for i, text in enumerate(texts) if teacher is None or teacher.knows(text)]
    known_texts = torch.tensor(known, dtype=torch.long)
    if teacher is not None and teacher.held is not None:
        held_texts = torch.tensor([i for i in known if text_key(texts[i]) in teacher.held], dtype=torch.long)
    else:
        held_texts = _held_texts(texts, known, prompts, config)
    encoder = embeddings_ND = None
    if teacher is not None:
        encoder = open_teacher(taught.encoder, device=device) if taught.encoder else None
        learned = known_texts[~torch.isin(known_texts, held_texts)]
        embeddings_ND = _text_embeddings(teacher, encoder, texts, [texts[i] for i in learned.tolist()], cache)
    tokenizer = _tokenizer(config, teacher, texts)
    networks = [each.fingerprint for each in (teacher, encoder) if each is not None]
    return Lessons(
        texts=texts,
        text_of=text_of,
        templates=config.data.templates,
        class_prompts=class_prompts,
        known_texts=known_texts,
        held_texts=held_texts,
        tokenizer=tokenizer,
        teacher_texts_ND=embeddings_ND,
        teacher_images=images,
        prototypes_KD=prototypes_KD,
        teacher_scale=config.teacher.logit_scale or (teacher.logit_scale if teacher else 100.0),
        fingerprint=combined(*networks, tokenizer.fingerprint, *texts),
    )


def known_or(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """Return the rows of `a_ND`, and where one is NaN that of `b_ND`."""
    return torch.where(a_ND.isnan(), b_ND, a_ND)


def _image_embeddings(teacher: Teacher, parts: list[Pictures], cache: Path) -> Tensor | None:
    """The teacher's embeddings of the pictures of all sources, NaN where it has none; None where it has none at all."""
    rows = [np.array(teacher_image_embeddings(teacher, part, cache), np.float32) for part in parts]
    found_ND = torch.from_numpy(np.concatenate(rows))
    return None if found_ND.isnan().all() else found_ND


def _prototypes(
    teacher: Teacher, config: RunConfig, pictures: RunPictures, images_ND: Tensor | None
) -> Tensor | None:
    """The prototypes that the teacher stores, else the mean of its embeddings of a class's training pictures."""
    if not pictures.classnames:
        return None
    keys = class_keys(config.data, pictures.sources["train"])
    stored = teacher.find_classes([keys[text_key(name)] for name in pictures.classnames])
    found_KD = torch.from_numpy(stored)
    if images_ND is not None:
        known_N = images_ND.isfinite().all(1)
        labels_N = pictures.labels["train"][known_N]
        sums_KD = torch.zeros_like(found_KD).index_add_(0, labels_N, images_ND[known_N])
        means_KD = sums_KD / sums_KD.norm(dim=1, keepdim=True)  # NaN, 0 / 0, where there is none
        found_KD = known_or(found_KD, means_KD)
    return None if found_KD.isnan().all() else found_KD


def _class_prompts(
    config: RunConfig, pictures: RunPictures, teacher: Teacher | None, prototypes_KD: Tensor | None
) -> list[list[str]]:
    names = pictures.classnames
    class_prompts = build_prompts(names, config.data.templates) if names else []
    if teacher is None or config.teacher.encoder or prototypes_KD is None:
        return class_prompts
    has_K = prototypes_KD.isfinite().all(1).tolist()
    lacking = [
        name
        for name, prompts, has in zip(names, class_prompts, has_K, strict=True)
        if not has and not all(map(teacher.knows, prompts))
    ]
    if lacking and config.data.limit:
        raise InputError(
            f"data.limit={config.data.limit} leaves {len(lacking)} classes without a picture that the teacher embeds, "
            f"and it has no text of them either ({listed(lacking)}): raise data.limit"
        )
    # Prompts that the teacher lacks may be missing where a prototype stands for the class. Where none does they
    # stay, and embedding them raises an error that names them.
    return [
        [prompt for prompt in prompts if teacher.knows(prompt)] if has_prototype else prompts
        for prompts, has_prototype in zip(class_prompts, has_K, strict=True)
    ]


def _other_texts(config: RunConfig, pictures: RunPictures, teacher: Teacher | None) -> list[str]:
    """Texts that are no class prompts: captions, the lines of a file, and what a table of embeddings holds."""
    texts = [text for part in pictures.splits.values() for group in part.captions or [] for text in group]
    if config.data.texts:
        texts += read_lines(Path(config.data.texts))
    return texts + list((teacher.texts if teacher else None) or [])


def _text_rows(texts: list[str], class_prompts: list[list[str]], pictures: RunPictures) -> dict[str, Tensor]:
    """Rows of each picture's captions or class prompts among the texts, by split; see `Lessons.text_of`."""
    row = {text: i for i, text in enumerate(texts)}
    text_of = {}
    for split, part in pictures.splits.items():
        groups = part.captions or [class_prompts[label] for label in pictures.labels[split].tolist()]
        text_of[split] = padded_rows([[row[text] for text in group] for group in groups])
        if part.captions and (text_of[split] < 0).all(1).any():
            raise InputError("a picture without any text: every picture needs a caption or a class name")
    return text_of


def _held_texts(texts: list[str], known: list[int], prompts: list[str], config: RunConfig) -> Tensor:
    """Rows of the texts to validate on: a share of those that the teacher embeds and that are no class prompt."""
    prompt_keys = {text_key(prompt) for prompt in prompts}
    free = torch.tensor([i for i in known if text_key(texts[i]) not in prompt_keys])
    if len(free) < FEW_TEXTS:
        return torch.arange(len(texts))
    order = torch.randperm(len(free), generator=torch.Generator().manual_seed(config.seed))
    return free[order[: round(config.data.val_fraction * len(free))]].sort().values


def _text_embeddings(
    teacher: Teacher, encoder: Teacher | None, texts: list[str], learned: list[str], cache: Path
) -> Tensor:
    """The teacher's embeddings; with an encoder of all texts, its map fitted to the learned ones alone."""
    if encoder is None:
        return torch.from_numpy(np.array(cached_text_embeddings(teacher, texts, cache), np.float32))
    return torch.from_numpy(bridged_text_embeddings(teacher, encoder, texts, learned, cache))


def _tokenizer(config: RunConfig, teacher: Teacher | None, texts: list[str]) -> Tokenizer:
    if config.tokenizer != "auto":
        return Tokenizer.load(config.tokenizer)
    if teacher is not None and teacher.tokenizer_file is not None:
        return Tokenizer.load(teacher.tokenizer_file)
    return Tokenizer.train(texts, config.vocab_size)


def padded_rows(rows: list[list[int]]) -> Tensor:
    """Return lists of row numbers as one tensor (lists, longest), padded with -1."""
    width = max([1, *map(len, rows)])
    return torch.tensor([row + [-1] * (width - len(row)) for row in rows], dtype=torch.long)
