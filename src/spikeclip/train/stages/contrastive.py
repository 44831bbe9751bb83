"""Stage contrastive: both towers on pairs of picture and text, without a teacher."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from spikeclip import losses
from spikeclip.config import StageConfig
from spikeclip.data.draws import Draws
from spikeclip.errors import InputError
from spikeclip.evaluate.retrieval import retrieval_metrics
from spikeclip.model import SpikeCLIP
from spikeclip.train.lessons import Lessons
from spikeclip.train.pictures import RunPictures
from spikeclip.train.stages.stage import (
    Batch,
    Stage,
    accuracy,
    draw_text,
    embed_classes,
    embed_split,
    encode_pictures,
    encode_texts,
    trim,
)
from spikeclip.train.stages.terms import equal_pairs


class Contrastive(Stage[SpikeCLIP]):
    """Both towers by InfoNCE or the sigmoid loss; a picture's text is drawn anew in every epoch."""

    needs_teacher = False
    towers = ("image", "text")

    @classmethod
    def check(cls, config: StageConfig, pictures: RunPictures, lessons: Lessons) -> None:
        for text_of_NM in lessons.text_of.values():
            if without := int((text_of_NM < 0).all(1).sum()):
                raise InputError(
                    f"stage contrastive needs a text of every picture; {without} of {len(text_of_NM)} have none that "
                    "the teacher can embed"
                )

    def __init__(
        self, config: StageConfig, seed: int, model: SpikeCLIP, pictures: RunPictures, lessons: Lessons
    ) -> None:
        super().__init__(config, seed)
        self.pictures, self.lessons = pictures, lessons
        self.eos_id, self.tokens_NL = model.config.text.eos_id, model.tokenize(lessons.texts)
        self.images, self.normalization = pictures.splits["train"].images, model.config.image.normalization
        self.samples = self.count(pictures, lessons)
        self.trains = (*self.towers, "log_scale")
        if config.loss.contrastive == "sigmoid":
            self.trains += ("logit_bias",)
        self.score_name = "val_acc1" if len(pictures.labels["val"]) else "val_recall@1"

    def batch(self, indices_B: Tensor, epoch: int) -> tuple[Batch, Batch]:
        rows_B = draw_text(self.lessons.text_of["train"], Draws(self.seed, epoch, indices_B))
        return {"tokens": trim(self.tokens_NL[rows_B], self.eos_id)}, {"id": rows_B}

    def features(self, model: SpikeCLIP, inputs: Batch) -> Batch:
        text_BD = model.encode_text(inputs["tokens"], normalize=True)
        return {**encode_pictures(model, inputs), "text": text_BD}

    def loss(self, model: SpikeCLIP, features: Batch, targets: Batch) -> dict[str, Tensor]:
        pair = (features["image"], features["text"])
        same_BB, scale = equal_pairs(targets["id"]), model.logit_scale
        if self.config.loss.contrastive == "sigmoid":
            return {"sigmoid": losses.sigmoid_loss(*pair, scale, model.logit_bias, same_BB)}
        return {"infonce": losses.contrastive_loss(*pair, scale, same_BB)}

    def score(self, model: SpikeCLIP) -> float:
        images_ND, labels_N = embed_split(model, self.pictures, "val"), self.pictures.labels["val"]
        if len(labels_N):
            return accuracy(images_ND, labels_N, embed_classes(model, self.pictures, self.lessons))
        texts_ND = encode_texts(model, self.tokens_NL[self.lessons.text_of["val"][:, 0]])
        metrics = retrieval_metrics(images_ND.numpy(), texts_ND.numpy(), np.arange(len(images_ND)))
        return metrics["image_retrieval_recall@1"]
