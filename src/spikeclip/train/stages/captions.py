"""The stage that trains a teacher: a CLIP on pictures and their captions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeclip.config import StageConfig
from spikeclip.data.draws import Draws
from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import build_prompts
from spikeclip.data.transforms import normalize
from spikeclip.defaults import TEMPLATE
from spikeclip.errors import InputError
from spikeclip.losses import contrastive_loss
from spikeclip.train.clip import CONTEXT_LENGTH, NORMALIZATION, ClipNetwork
from spikeclip.train.lessons import padded_rows
from spikeclip.train.stages.stage import Batch, Stage, draw_text, trim


@dataclass(frozen=True)
class Captioned:
    """Pictures and their different texts. text_of_NM: rows of the texts of each picture, padded with -1."""

    pictures: Pictures
    texts: list[str]
    text_of_NM: Tensor


class Captions(Stage[ClipNetwork]):
    """A CLIP by InfoNCE between each picture and one of its texts; none of a picture's texts is a negative."""

    needs_teacher = False
    trains = ("clip",)

    def __init__(
        self, config: StageConfig, seed: int, model: ClipNetwork, training: Captioned, validation: Captioned
    ) -> None:
        super().__init__(config, seed)
        self.training, self.validation = training, validation
        self.eos_id = model.tokenizer.eos_id
        self.tokens_NL = model.tokenizer(training.texts, CONTEXT_LENGTH)
        self.validation_tokens_NL = model.tokenizer(validation.texts, CONTEXT_LENGTH)
        self.samples = len(training.pictures)
        self.images, self.normalization = training.pictures.images, NORMALIZATION
        self.score_name = "val_acc1" if training.pictures.captions is None else "val_recall@1"

    def batch(self, indices_B: Tensor, epoch: int) -> tuple[Batch, Batch]:
        rows_B = draw_text(self.training.text_of_NM, Draws(self.seed, epoch, indices_B))
        inputs = {"tokens": trim(self.tokens_NL[rows_B], self.eos_id)}
        return inputs, {"text": rows_B, "texts": self.training.text_of_NM[indices_B]}

    def features(self, model: ClipNetwork, inputs: Batch) -> Batch:
        return {"image": model.encode_image(inputs["images"]), "text": model.encode_text(inputs["tokens"])}

    def loss(self, model: ClipNetwork, features: Batch, targets: Batch) -> dict[str, Tensor]:
        same_BB = (targets["texts"][:, None, :] == targets["text"][None, :, None]).any(-1)
        return {"infonce": contrastive_loss(features["image"], features["text"], model.logit_scale, same_BB)}

    def score(self, model: ClipNetwork) -> float:
        """Share of the validation pictures whose nearest text is one of theirs."""
        device, pictures = model.logit_scale.device, self.validation.pictures
        tokens = self.validation_tokens_NL.split(512)
        texts_TD = torch.cat([model.encode_text(rows.to(device)) for rows in tokens])
        hits = 0
        for rows in torch.arange(len(pictures)).split(512):
            images_BHWC = torch.from_numpy(pictures.images[rows.numpy()]).to(device)
            images_BD = model.encode_image(normalize(images_BHWC, *NORMALIZATION))
            nearest_B = (images_BD @ texts_TD.T).argmax(1).cpu()
            hits += int((self.validation.text_of_NM[rows] == nearest_B[:, None]).sum())
        return hits / len(pictures)

    def after_step(self, model: ClipNetwork) -> None:
        model.limit_scale()


def captioned(pictures: Pictures) -> Captioned:
    """Collect the captions of pictures and the prompts of their labels; raises `InputError` for one without either.

    With labels the prompt of every class is among the texts, the first ones, whether a picture shows it or not.
    """
    groups = [list(group) for group in pictures.captions or [[]] * len(pictures)]
    place: dict[str, int] = {}
    if pictures.labels is not None:
        prompts = [prompt for (prompt,) in build_prompts(pictures.classnames, [TEMPLATE])]
        place = {text: i for i, text in enumerate(dict.fromkeys(prompts))}
        groups = [[*group, prompts[label]] for group, label in zip(groups, pictures.labels, strict=True)]
    if not all(groups):
        raise InputError(f"{pictures.name} {pictures.split}: a picture with neither a caption nor a label")
    rows = [[place.setdefault(text, len(place)) for text in group] for group in groups]
    return Captioned(pictures, list(place), padded_rows(rows))


def first_captions(pictures: Pictures) -> Pictures:
    """Keep one caption a picture, where there are any: shorter ones may be true of other pictures too."""
    if pictures.captions is None:
        return pictures
    return dataclasses.replace(pictures, captions=[group[:1] for group in pictures.captions], labels=None)
