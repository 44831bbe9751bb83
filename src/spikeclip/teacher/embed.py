"""A live teacher's embeddings as a table, so that training needs the teacher no more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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


def embed_table(
    teacher: Teacher,
    parts: Sequence[Pictures],
    out: Path,
    cache: Path,
    *,
    templates: Sequence[str],
    texts: Sequence[str] = (),
    augmentations: int = 0,
    change: AugmentConfig | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, int]:
    """Write the table `out` (.npz, layout of `TableTeacher`) of what `teacher` says of pictures and texts.

    parts: splits of data sets. Their captions, the prompts of their class names and `texts` are embedded too.
    augmentations: so many versions of each picture, drawn as `change` says, are averaged; 0 embeds it as it is.
    A teacher without an image side makes a table of texts. Rows are float16. What is computed is kept in `cache`
    as it comes, so that an interrupted call goes on where it was. Returns the number of `images` and `texts`.
    Raises `InputError` where there is nothing to embed, and where a table is to teach a table.
    """
    if teacher.texts is not None:
        raise InputError(f"{teacher.name} is a table already; `teacher embed` asks a model")
    captions = [text for part in parts for own in part.captions or [] for text in own]
    names = list(dict.fromkeys(name for part in parts if part.labels is not None for name in part.classnames))
    prompts = [p for group in build_prompts(names, templates) for p in group] if names else []
    wanted = list(dict.fromkeys([*prompts, *captions, *texts]))
    columns: dict[str, np.ndarray] = {"logit_scale": np.array(teacher.logit_scale)}
    if wanted:
        rows_ND = cached_text_embeddings(teacher, wanted, cache, progress)
        columns |= {"texts": np.array(wanted), "text_embeddings": rows_ND.astype(np.float16)}
    if teacher.has_images and parts:
        change = change or AugmentConfig(flip="random")
        rows = [_embed(teacher, part, cache, augmentations, change, batch_size, progress) for part in parts]
        columns |= {
            "sources": np.array([part.name for part in parts for _ in part.ids]),
            "splits": np.array([part.split for part in parts for _ in part.ids]),
            "images": np.array([key for part in parts for key in part.ids]),
            "image_embeddings": np.concatenate(rows).astype(np.float16),
            "n_aug": np.full(sum(map(len, parts)), augmentations),
        }
    if len(columns) == 1:
        raise InputError("nothing to embed: no pictures, captions, class names or texts")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        np.savez(file, **columns)  # type: ignore[arg-type]
    return {"images": len(columns.get("images", ())), "texts": len(wanted)}


def _embed(
    teacher: Teacher,
    part: Pictures,
    cache: Path,
    augmentations: int,
    change: AugmentConfig,
    batch_size: int,
    progress: bool,
) -> np.ndarray:
    find = partial(cached_image_embeddings, teacher, part, cache, batch_size, progress)
    if not augmentations:
        return find()

    def views(rows: slice) -> Iterator[np.ndarray]:
        images_BHWC, indices_B = (
            torch.from_numpy(np.array(part.images[rows])),
            torch.arange(rows.start, rows.stop),
        )
        for i in range(augmentations):  # drawn by the place alone: a call that goes on draws the same
            yield augment(images_BHWC, change, Draws(seed=0, epoch=i, indices_B=indices_B)).numpy()

    return find(views=views, views_key=json.dumps([_DRAWN_BY, augmentations, to_dict(change)]))
