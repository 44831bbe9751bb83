"""Stage align_text: the text tower to the teacher's text embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip import losses
from spikeclip.config import StageConfig
from spikeclip.model import SpikeCLIP
from spikeclip.train.lessons import Lessons
from spikeclip.train.pictures import RunPictures
from spikeclip.train.stages.stage import Batch, Stage, encode_texts, trim
from spikeclip.train.stages.terms import distillation_terms, learned_scale, pairs_loss


class AlignText(Stage[SpikeCLIP]):
    """Text tower to the teacher's embeddings of the texts that are not held out for validation."""

    towers = ("text",)
    score_name = "val_centred_cosine"

    @classmethod
    def count(cls, pictures: RunPictures, lessons: Lessons) -> int:
        return len(lessons.texts) - len(lessons.held_texts) or len(lessons.texts)

    def __init__(
        self, config: StageConfig, seed: int, model: SpikeCLIP, pictures: RunPictures, lessons: Lessons
    ) -> None:
        super().__init__(config, seed)
        assert lessons.teacher_texts_ND is not None
        self.teacher_ND, self.teacher_scale = lessons.teacher_texts_ND, lessons.teacher_scale
        self.eos_id = model.config.text.eos_id
        self.tokens_NL = model.tokenize(lessons.texts)
        held, everything = lessons.held_texts, torch.arange(len(lessons.texts))
        holds_out = len(held) < len(everything)
        self.learned = everything[~torch.isin(everything, held)] if holds_out else everything
        self.samples = self.count(pictures, lessons)
        self.trains = (*self.towers, *learned_scale(config.loss))
        self.mean_D = self.teacher_ND[self.learned].mean(0)
        # What is held out is soon as good as it gets, and the names that later stages read are not: both count.
        self.scored = [held, lessons.prompt_rows] if holds_out else [held]
        self.picture_of = picture_of_text(lessons)
        images = lessons.teacher_images["train"]
        # A teacher of some pictures is no partner for all texts.
        self.images_ND = None if images is None or images.isnan().any() else images

    def batch(self, indices_B: Tensor, epoch: int) -> tuple[Batch, Batch]:
        rows_B = self.learned[indices_B]
        targets = {"text": self.teacher_ND[rows_B]}
        if self.config.loss.interactive and self.images_ND is not None:
            picture_B = self.picture_of[rows_B]
            targets |= {"image": self.images_ND[picture_B], "id": picture_B}
        return {"tokens": trim(self.tokens_NL[rows_B], self.eos_id)}, targets

    def features(self, model: SpikeCLIP, inputs: Batch) -> Batch:
        return {"text": model.encode_text(inputs["tokens"], normalize=True)}

    def loss(self, model: SpikeCLIP, features: Batch, targets: Batch) -> dict[str, Tensor]:
        weights, student_BD = self.config.loss, features["text"]
        scales = (model.logit_scale, self.teacher_scale)
        terms = distillation_terms(student_BD, targets["text"], weights, scales)
        if weights.interactive:
            loss = (
                pairs_loss(model, student_BD, targets["image"], targets["id"])
                if "image" in targets
                else losses.contrastive_loss(student_BD, targets["text"], model.logit_scale)
            )
            terms["interactive"] = weights.interactive * loss
        return terms

    def score(self, model: SpikeCLIP) -> float:
        # Centred: a tower that answers any text with the mean has a cosine of 0.86 to CLIP, and has learned nothing.
        means = []
        for rows in filter(len, self.scored):
            student = encode_texts(model, self.tokens_NL[rows]) - self.mean_D
            means.append(F.cosine_similarity(student, self.teacher_ND[rows] - self.mean_D).mean())
        return torch.stack(means).mean().item()


def picture_of_text(lessons: Lessons) -> Tensor:
    """Return for each text the row of a training picture that it describes (N,), -1 for none."""
    picture_of = torch.full((len(lessons.texts),), -1, dtype=torch.long)
    text_of = lessons.text_of["train"]
    for column in text_of.T:
        known = column >= 0
        picture_of[column[known]] = torch.arange(len(text_of))[known]
    return picture_of
