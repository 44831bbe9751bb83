"""Stage align_image: the image tower to the teacher's embeddings of the picture, of its class or of its texts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.config import StageConfig
from spikeclip.data.draws import Draws
from spikeclip.errors import InputError
from spikeclip.model import SpikeCLIP
from spikeclip.train.lessons import Lessons, known_or
from spikeclip.train.pictures import RunPictures
from spikeclip.train.stages.stage import (
    Batch,
    Stage,
    accuracy,
    draw_text,
    embed_split,
    encode_pictures,
)
from spikeclip.train.stages.terms import (
    distillation_terms,
    learned_scale,
    pairs_loss,
    scaled_texts,
    texts_kl,
)


class AlignImage(Stage[SpikeCLIP]):
    """Image tower to the weighted sum of the teacher's embeddings of each picture; see `target_embeddings`."""

    towers = ("image",)

    @classmethod
    def check(cls, config: StageConfig, pictures: RunPictures, lessons: Lessons) -> None:
        if config.loss.prototype and not pictures.labelled:
            raise InputError("loss.prototype needs labels, and this data has captions only")

    def __init__(
        self, config: StageConfig, seed: int, model: SpikeCLIP, pictures: RunPictures, lessons: Lessons
    ) -> None:
        super().__init__(config, seed)
        assert lessons.teacher_texts_ND is not None
        self.pictures, self.lessons = pictures, lessons
        self.texts_ND = lessons.teacher_texts_ND
        device = model.log_scale.device
        self.scaled_DN = scaled_texts(lessons, device)
        self.images, self.normalization = pictures.splits["train"].images, model.config.image.normalization
        self.samples = self.count(pictures, lessons)
        self.trains = (*self.towers, *learned_scale(config.loss))
        self.score_name = "val_acc1" if pictures.labelled else "val_cosine"
        self.classes_KD = self.scored_KD = None
        if pictures.labelled:
            self.classes_KD = lessons.class_targets_KD.to(device)
            # Scored by text, as the network will be used, where every class has one.
            by_text_KD = lessons.teacher_classes_KD
            self.scored_KD = self.classes_KD if by_text_KD.isnan().any() else by_text_KD

    def batch(self, indices_B: Tensor, epoch: int) -> tuple[Batch, Batch]:
        rows_B = draw_text(self.lessons.text_of["train"], Draws(self.seed, epoch, indices_B))
        targets = {
            "text": self.texts_ND[rows_B],
            "image": self.target_embeddings(indices_B, rows_B),
            "id": rows_B,
        }
        if self.pictures.labelled:
            targets["label"] = self.pictures.labels["train"][indices_B]
        return {}, targets

    def target_embeddings(self, indices_B: Tensor, rows_B: Tensor) -> Tensor:
        """Return what pictures are aligned to (B, D), of unit length.

        It is the sum of the teacher's embeddings of the picture, of its class and of a text, weighted by
        `config.target`. rows_B: a text of each picture, -1 for none. The cosine is linear in the target, so this equals
        weighing the losses to each of them, but for a factor. A picture without anything that has a weight gets the
        first that it has.
        """
        missing_BD = torch.full((len(indices_B), self.texts_ND.shape[1]), torch.nan)
        images_ND, prototypes_KD = self.lessons.teacher_images["train"], self.lessons.prototypes_KD
        labels_N = self.pictures.labels["train"]
        teacher_3BD = torch.stack(
            [
                missing_BD if images_ND is None else images_ND[indices_B],
                missing_BD if prototypes_KD is None else prototypes_KD[labels_N[indices_B]],
                torch.where(rows_B[:, None] >= 0, self.texts_ND[rows_B], missing_BD),
            ]
        )
        target = self.config.target
        there_3B = teacher_3BD.isfinite().all(2)
        weights_3B = torch.tensor([target.image, target.prototype, target.text])[:, None] * there_3B
        first_3B = F.one_hot(there_3B.int().argmax(0), 3).T
        weights_3B = torch.where(weights_3B.sum(0) > 0, weights_3B, first_3B)
        return F.normalize((weights_3B[..., None] * teacher_3BD.nan_to_num()).sum(0), dim=-1)

    def features(self, model: SpikeCLIP, inputs: Batch) -> Batch:
        return encode_pictures(model, inputs)

    def loss(self, model: SpikeCLIP, features: Batch, targets: Batch) -> dict[str, Tensor]:
        weights, student_BD = self.config.loss, features["image"]
        scales = (model.logit_scale, self.lessons.teacher_scale)
        terms = distillation_terms(student_BD, targets["image"], weights, scales)
        if weights.interactive:
            pairs = pairs_loss(model, student_BD, targets["text"], targets["id"])
            terms["interactive"] = weights.interactive * pairs
        if weights.prototype and self.classes_KD is not None:
            logits_BK = model.logit_scale * student_BD @ self.classes_KD.T
            terms["prototype"] = weights.prototype * F.cross_entropy(
                logits_BK, targets["label"], label_smoothing=weights.label_smoothing
            )
        if weights.texts:
            terms["texts"] = weights.texts * texts_kl(student_BD, targets["image"], self.scaled_DN)
        return terms

    def score(self, model: SpikeCLIP) -> float:
        student_ND = embed_split(model, self.pictures, "val")
        if self.scored_KD is not None:
            return accuracy(student_ND, self.pictures.labels["val"], self.scored_KD)
        teacher_ND = self.texts_ND[self.lessons.text_of["val"][:, 0]]
        images_ND = self.lessons.teacher_images["val"]
        if images_ND is not None:
            teacher_ND = known_or(images_ND, teacher_ND)
        return F.cosine_similarity(student_ND, teacher_ND).mean().item()
