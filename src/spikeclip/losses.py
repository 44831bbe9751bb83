"""What the stages minimise: means over the batch. In a larger batch, contrastive losses see more negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine_loss(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """Mean of 1 - cos (SpikeCLIP, arXiv 2310.06488, step 1); for unit vectors half the squared feature distance."""
    return (1 - F.cosine_similarity(student_BD, teacher_BD, dim=-1)).mean()


def contrastive_loss(
    a_BD: Tensor, b_BD: Tensor, scale: Tensor | float, same_BB: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE between paired unit vectors (CLIP, arXiv 2103.00020).

    same_BB: bool, True where a row and a column match (equal captions); each row's target is uniform
    over its matches, and a pair that does not match itself is left out, also as a negative. Without it only the
    diagonal matches. Used against the teacher's features of the other
    modality it is the interactive contrastive loss (CLIP-KD, arXiv 2307.12732).
    """
    logits_BB = scale * a_BD @ b_BD.T
    if same_BB is None:
        target = torch.arange(len(logits_BB), device=logits_BB.device)
        return (F.cross_entropy(logits_BB, target) + F.cross_entropy(logits_BB.T, target)) / 2
    there_B = same_BB.diagonal()
    both_BB = there_B[:, None] & there_B
    logits_BB = logits_BB.masked_fill(~both_BB, -1e4)
    weights_BB = (same_BB & both_BB).to(logits_BB.dtype)
    rows = F.cross_entropy(
        logits_BB, weights_BB / weights_BB.sum(1, keepdim=True).clamp(min=1), reduction="sum"
    )
    columns = F.cross_entropy(
        logits_BB.T, weights_BB.T / weights_BB.sum(0)[:, None].clamp(min=1), reduction="sum"
    )
    return (rows + columns) / (2 * there_B.sum().clamp(min=1))


def sigmoid_loss(
    a_BD: Tensor, b_BD: Tensor, scale: Tensor | float, bias: Tensor | float, same_BB: Tensor | None = None
) -> Tensor:
    """Pairwise sigmoid loss, mean over rows of the sum over columns (SigLIP, arXiv 2303.15343)."""
    logits_BB = scale * a_BD @ b_BD.T + bias
    same_BB = (
        torch.eye(len(logits_BB), dtype=torch.bool, device=logits_BB.device) if same_BB is None else same_BB
    )
    return -F.logsigmoid(torch.where(same_BB, logits_BB, -logits_BB)).sum(1).mean()


def relational_loss(
    student_BD: Tensor, teacher_BD: Tensor, student_scale: Tensor | float, teacher_scale: float
) -> Tensor:
    """KL from the teacher's to the student's distribution of similarities to the rest of the batch (CLIP-KD's CRD).

    All vectors have unit length. A picture's similarity to itself is left out.
    """
    self_BB = torch.eye(len(student_BD), dtype=torch.bool, device=student_BD.device)
    student_BB = (student_scale * student_BD @ student_BD.T).masked_fill(self_BB, -1e4)
    teacher_BB = (teacher_scale * teacher_BD @ teacher_BD.T).masked_fill(self_BB, -1e4)
    return F.kl_div(
        student_BB.log_softmax(1), teacher_BB.log_softmax(1), reduction="batchmean", log_target=True
    )


def kl_loss(student_BK: Tensor, teacher_BK: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) over the class prompts, `batchmean`, times temperature^2 (Hinton et al., 1503.02531).

    Both inputs are logits, already multiplied by the logit scale of their model.
    """
    student = (student_BK / temperature).log_softmax(1)
    teacher = (teacher_BK / temperature).log_softmax(1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def rate_loss(rates: dict[str, Tensor], accumulates: dict[str, int], target: float) -> Tensor:
    """Mean over layers of relu(rate - target), each weighted by the accumulates that its spikes drive.

    rates: mean spikes per neuron and time step of each layer. accumulates: how many multiply-accumulates of a dense
    run each layer drives. With a target of 0 the loss is the network's accumulates over those of one spike per neuron.
    """
    total = sum(accumulates[name] for name in rates)
    return torch.stack(
        [accumulates[name] / total * F.relu(rate - target) for name, rate in rates.items()]
    ).sum()
