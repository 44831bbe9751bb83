"""A live teacher's embeddings as a table, so that training needs the teacher no more."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from spikeclip.config import AugmentConfig, to_dict
from spikeclip.data.draws import Draws
from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import build_prompts
from spikeclip.data.transforms import augment
from spikeclip.errors import InputError
from spikeclip.files import replacing
from spikeclip.teacher.base import Teacher
from spikeclip.teacher.cache import cached_image_embeddings, cached_text_embeddings

_DRAWN_BY = "place"  # part of the key of stored embeddings: another text when views are drawn in another way


@dataclass(frozen=True)
class Views:
    """Versions of a picture whose embeddings are averaged."""

    count: int
    change: AugmentConfig
    """How they are drawn."""


def embed_table(
    teacher: Teacher,
    parts: Sequence[Pictures],
    out: Path,
    cache: Path,
    *,
    templates: Sequence[str],
    texts: Sequence[str] = (),
    views: Views | None = None,
    batch_size: int = 64,
) -> dict[str, int]:
    """Write the table `out` (.npz, layout of `TableTeacher`) of a teacher's embeddings of pictures and texts.

    parts: splits of data sets. Their captions, the prompts of their class names and `texts` are embedded too.
    views: versions of each picture whose embeddings are averaged; None embeds it as it is.
    A teacher without an image side makes a table of texts; an image network knows the texts of its tables, and other
    captions and prompts are left out. Rows are float16. What is computed is kept in `cache`
    as it comes, so that an interrupted call goes on where it was. Returns the number of `images` and `texts`.
    Raises `InputError` where there is nothing to embed, and where a table is to teach a table.
    """
    if teacher.texts is not None and teacher.image_format is None:
        raise InputError(f"{teacher.name} is a table already; `teacher embed` takes a model")
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise InputError(f"{out} cannot be written: it is a folder, or in one that is not yours to write in")
    captions = [text for part in parts for group in part.captions or [] for text in group]
    names = list(dict.fromkeys(name for part in parts if part.labels is not None for name in part.classnames))
    prompts = [p for group in build_prompts(names, templates) for p in group] if names else []
    wanted = list(dict.fromkeys([*filter(teacher.knows, [*prompts, *captions]), *texts]))
    columns: dict[str, np.ndarray] = {"logit_scale": np.array(teacher.logit_scale)}
    if wanted:
        rows_ND = cached_text_embeddings(teacher, wanted, cache)
        columns |= {"texts": np.array(wanted), "text_embeddings": rows_ND.astype(np.float16)}
    if teacher.image_format and parts:
        rows = [_embed(teacher, part, cache, views, batch_size) for part in parts]
        columns |= {
            "sources": np.array([part.name for part in parts for _ in part.ids]),
            "splits": np.array([part.split for part in parts for _ in part.ids]),
            "images": np.array([key for part in parts for key in part.ids]),
            "image_embeddings": np.concatenate(rows).astype(np.float16),
            "n_aug": np.full(sum(map(len, parts)), views.count if views else 0),
        }
    if len(columns) == 1:
        raise InputError("nothing to embed: no pictures, captions, class names or texts")
    with replacing(out) as file:
        np.savez(file, **columns)  # type: ignore[arg-type]
    return {"images": len(columns.get("images", ())), "texts": len(wanted)}


def _embed(teacher: Teacher, part: Pictures, cache: Path, views: Views | None, batch_size: int) -> np.ndarray:
    find = partial(cached_image_embeddings, teacher, part, cache, batch_size)
    if views is None:
        return find()

    def versions(rows: slice) -> Iterator[np.ndarray]:
        images_BHWC = torch.from_numpy(np.array(part.images[rows]))
        indices_B = torch.arange(rows.start, rows.stop)
        for i in range(views.count):  # drawn by the place alone: a call that goes on draws the same
            yield augment(images_BHWC, views.change, Draws(0, i, indices_B)).numpy()

    return find(views=versions, views_key=json.dumps([_DRAWN_BY, views.count, _described(views.change)]))


def _described(change: AugmentConfig) -> dict[str, object]:
    """The settings of a change but for later ones that change nothing: embeddings stored before them stay found."""
    default = to_dict(AugmentConfig())
    first = ("crop", "flip", "cutout")
    return {name: x for name, x in to_dict(change).items() if name in first or x != default[name]}
