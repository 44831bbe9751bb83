"""Stage finetune: the image tower to the classes, over frozen text embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip import losses
from spikeclip.config import StageConfig
from spikeclip.errors import InputError
from spikeclip.model import SpikeCLIP
from spikeclip.train.lessons import Lessons, known_or
from spikeclip.train.pictures import RunPictures
from spikeclip.train.stages.stage import (
    Batch,
    Stage,
    accuracy,
    embed_classes,
    embed_split,
    encode_pictures,
)
from spikeclip.train.stages.terms import scaled_texts, texts_kl


class Finetune(Stage[SpikeCLIP]):
    """Image tower by cross-entropy over the classes and KL to the teacher.

    With `loss.keep` also KL to the network's predictions for each picture, as it is, from before the stage.
    """

    towers = ("image",)
    trains = (*towers, "log_scale")
    score_name = "val_acc1"

    @classmethod
    def check(cls, config: StageConfig, pictures: RunPictures, lessons: Lessons) -> None:
        if not pictures.labelled:
            raise InputError("stage finetune needs labels, and this data has captions only")
        if lessons.teacher_classes_KD.isnan().any():
            without = sum(not prompts for prompts in lessons.class_prompts)
            raise InputError(
                f"stage finetune needs the teacher's text embedding of every class; {without} have none"
            )

    def __init__(
        self, config: StageConfig, seed: int, model: SpikeCLIP, pictures: RunPictures, lessons: Lessons
    ) -> None:
        super().__init__(config, seed)
        self.teacher_KD, self.teacher_scale = lessons.teacher_classes_KD, lessons.teacher_scale
        self.pictures = pictures
        self.teacher_images_ND = lessons.teacher_images["train"]
        device = model.log_scale.device
        self.student_KD = embed_classes(model, pictures, lessons).to(device)
        self.scaled_DN = scaled_texts(lessons, device)
        self.before_ND = embed_split(model, pictures, "train", progress=True) if config.loss.keep else None
        self.images, self.normalization = pictures.splits["train"].images, model.config.image.normalization
        self.samples = self.count(pictures, lessons)

    def batch(self, indices_B: Tensor, epoch: int) -> tuple[Batch, Batch]:
        labels_B = self.pictures.labels["train"][indices_B]
        # Of a picture that it does not know the teacher's embedding is that of the class.
        teacher_BD = self.teacher_KD[labels_B]
        if self.teacher_images_ND is not None:
            teacher_BD = known_or(self.teacher_images_ND[indices_B], teacher_BD)
        targets = {"label": labels_B, "teacher": self.teacher_scale * teacher_BD @ self.teacher_KD.T}
        if self.before_ND is not None:
            targets["before"] = self.before_ND[indices_B]
        return {}, targets

    def mix(self, targets: Batch, others: Batch, share_B: Tensor) -> Batch:
        """Labels become shares of the classes (B, K); what is linear in an embedding is mixed as the embedding is."""
        classes = len(self.student_KD)
        sides = ({**side, "label": F.one_hot(side["label"], classes).float()} for side in (targets, others))
        own, other = sides
        return {name: torch.lerp(other[name], value, share_B[:, None]) for name, value in own.items()}

    def features(self, model: SpikeCLIP, inputs: Batch) -> Batch:
        return encode_pictures(model, inputs)

    def loss(self, model: SpikeCLIP, features: Batch, targets: Batch) -> dict[str, Tensor]:
        weights, student_BD = self.config.loss, features["image"]
        logits_BK = model.logit_scale * student_BD @ self.student_KD.T
        terms = {}
        if weights.ce:
            terms["ce"] = weights.ce * F.cross_entropy(
                logits_BK, targets["label"], label_smoothing=weights.label_smoothing
            )
        if weights.kl:
            terms["kl"] = weights.kl * losses.kl_loss(logits_BK, targets["teacher"], weights.temperature)
        if weights.keep:
            terms["keep"] = weights.keep * texts_kl(student_BD, targets["before"], self.scaled_DN)
        return terms

    def score(self, model: SpikeCLIP) -> float:
        student_ND = embed_split(model, self.pictures, "val")
        return accuracy(student_ND, self.pictures.labels["val"], self.student_KD)
