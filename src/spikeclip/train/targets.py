"""Which of the teacher's embeddings a sample is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.config import TargetConfig
from spikeclip.train.material import Material


def target_embeddings(weights: TargetConfig, material: Material, indices: Tensor, rows: Tensor) -> Tensor:
    """Return what pictures are aligned to (B, D): the weighted sum of what the teacher says of each, of unit length.

    rows: a text of each picture, -1 for none. The cosine is linear in the target, so this equals weighing the losses
    to each of them, but for a factor. A picture without anything that has a weight gets the first it has.
    """
    assert material.teacher_texts_ND is not None
    missing_BD = torch.full((len(indices), material.teacher_texts_ND.shape[1]), torch.nan)
    images, prototypes = material.teacher_images["train"], material.prototypes_KD
    said_3BD = torch.stack(
        [
            missing_BD if images is None else images[indices],
            missing_BD if prototypes is None else prototypes[material.labels["train"][indices]],
            torch.where(rows[:, None] >= 0, material.teacher_texts_ND[rows], missing_BD),
        ]
    )
    there_3B = said_3BD.isfinite().all(2)
    weights_3B = torch.tensor([weights.image, weights.prototype, weights.text])[:, None] * there_3B
    first_3B = F.one_hot(there_3B.int().argmax(0), 3).T
    weights_3B = torch.where(weights_3B.sum(0) > 0, weights_3B, first_3B)
    return F.normalize((weights_3B[..., None] * said_3BD.nan_to_num()).sum(0), dim=-1)


def draw_text(text_of: Tensor, indices: Tensor, generator: torch.Generator) -> Tensor:
    """Return one text of each picture, a row of the texts (B,); -1 where it has none."""
    rows = text_of[indices]
    place = (torch.rand(len(rows), generator=generator) * (rows >= 0).sum(1)).long()
    return rows.gather(1, place[:, None])[:, 0]


def picture_of_text(material: Material) -> Tensor:
    """Return for each text the row of a training picture it describes, -1 for none."""
    picture_of = torch.full((len(material.texts),), -1, dtype=torch.long)
    text_of = material.text_of["train"]
    for column in text_of.T:
        known = column >= 0
        picture_of[column[known]] = torch.arange(len(text_of))[known]
    return picture_of
