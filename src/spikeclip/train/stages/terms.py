"""Terms of the loss that several stages have."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeclip import losses
from spikeclip.config import LossConfig
from spikeclip.model import SpikeCLIP
from spikeclip.train.lessons import Lessons


def distillation_terms(
    student_BD: Tensor, teacher_BD: Tensor, weights: LossConfig, scales: tuple[Tensor, float]
) -> dict[str, Tensor]:
    """Return the weighted terms between embeddings of the same texts or pictures.

    scales: the factors on the cosines of the student and of the teacher.
    """
    terms = {}
    if weights.cosine:
        terms["cosine"] = weights.cosine * losses.cosine_loss(student_BD, teacher_BD)
    if weights.relational:
        terms["relational"] = weights.relational * losses.relational_loss(student_BD, teacher_BD, *scales)
    return terms


def learned_scale(weights: LossConfig) -> tuple[str, ...]:
    """Name the temperature where a term of an alignment stage reads it, so that it learns only there."""
    return ("log_scale",) if weights.interactive or weights.relational or weights.prototype else ()


def pairs_loss(model: SpikeCLIP, student_BD: Tensor, teacher_BD: Tensor, ids_B: Tensor) -> Tensor:
    """Contrastive loss over the rows that have a partner, ids >= 0; equal ids are no negatives of each other."""
    # Without a pair it is 0 by a mask, and the temperature in use: distributed training waits for its gradient.
    same_BB = equal_pairs(ids_B) & (ids_B >= 0)
    return losses.contrastive_loss(student_BD, teacher_BD, model.logit_scale, same_BB)


def equal_pairs(ids_B: Tensor) -> Tensor:
    """Return where a row and a column have the same id (B, B) bool."""
    return ids_B[:, None] == ids_B[None, :]


def scaled_texts(lessons: Lessons, device: torch.device) -> Tensor:
    """Return the embeddings of the known texts times the teacher's scale (D, N): pictures times them are logits."""
    assert lessons.teacher_texts_ND is not None
    return (lessons.teacher_scale * lessons.teacher_texts_ND[lessons.known_texts].T).to(device)


def texts_kl(student_BD: Tensor, target_BD: Tensor, scaled_DN: Tensor) -> Tensor:
    """KL between the distributions over `scaled_texts` of two embeddings of each picture."""
    return losses.kl_loss(student_BD @ scaled_DN, target_BD @ scaled_DN)
