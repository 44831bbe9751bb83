"""Naming a picture, and embeddings of pictures and texts."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, File, Form, UploadFile
from pydantic import BaseModel, Field

from spikeclip.encode.classify import check_labels, rank
from spikeclip.encode.embed import zero_shot_classifier
from spikeclip.serve.batches import Batched
from spikeclip.serve.refusals import Refused
from spikeclip.serve.settings import Settings
from spikeclip.serve.uploads import pixels_of

Text = Annotated[str, Field(max_length=2000)]


class Score(BaseModel):
    label: str
    score: float
    """The softmax over the labels."""


class Classified(BaseModel):
    """What a picture is, best label first."""

    model: str
    scores: list[Score]


class Texts(BaseModel):
    """Texts to embed."""

    texts: list[Text] = Field(min_length=1, examples=[["a red bus", "a cat on a sofa"]])


class Embedded(BaseModel):
    """Embeddings of unit length, in the order of what was sent."""

    model: str
    fingerprint: str
    """Embeddings of another fingerprint cannot be compared with these."""
    dim: int
    embeddings: list[list[float]]


def routes(encoder: Batched, settings: Settings) -> APIRouter:
    """Return /v1/classify, /v1/embed/image and /v1/embed/text."""
    router = APIRouter(prefix="/v1", tags=["recognise"])
    size = encoder.image_format.image_size

    @router.post("/classify")
    def classify(
        picture: Annotated[UploadFile, File(description="A picture file.")],
        labels: Annotated[list[Text], Form(description="One field for each label, or one with commas.")],
        templates: Annotated[
            list[Text] | None,
            Form(description="Prompts with {c} for the label; those of the model by default."),
        ] = None,
        top: Annotated[int | None, Form(ge=1, description="Labels to return; all by default.")] = None,
    ) -> Classified:
        """Say which of your labels fits a picture best."""
        names = [part.strip() for part in labels[0].split(",")] if len(labels) == 1 else labels
        prompts = templates or encoder.taught.prompts
        said = sum(len(names) * len(p) + p.count("{c}") * sum(map(len, names)) for p in prompts)
        _check(len(names) * len(prompts), said, settings)
        check_labels(names)
        images_NHWC = pixels_of(picture.file.read(), size, settings)[None]
        classes_KD = zero_shot_classifier(encoder, names, prompts)
        (ranked,) = rank(encoder, images_NHWC, classes_KD, names, top)
        return Classified(model=encoder.name, scores=[Score(**entry) for entry in ranked])

    @router.post("/embed/image")
    def embed_image(
        pictures: Annotated[list[UploadFile], File(description="Picture files, one field for each.")],
    ) -> Embedded:
        """Embed pictures."""
        if len(pictures) > settings.pictures:
            raise Refused(
                400, f"{len(pictures)} pictures, the bound is {settings.pictures}: send them in parts"
            )
        several = len(pictures) > 1
        pixels = [
            pixels_of(file.file.read(), size, settings, f"picture {i}" if several else "the picture")
            for i, file in enumerate(pictures, 1)
        ]
        return _embedded(encoder, encoder.encode_image(np.stack(pixels)))

    @router.post("/embed/text")
    def embed_text(body: Texts) -> Embedded:
        """Embed texts."""
        _check(len(body.texts), sum(map(len, body.texts)), settings)
        return _embedded(encoder, encoder.encode_text(body.texts))

    return router


def _check(texts: int, letters: int, settings: Settings) -> None:
    """Refuse more texts, or longer ones, than a request may bring before the model."""
    for count, most, what in ((texts, settings.texts, "texts"), (letters, settings.letters, "characters")):
        if count > most:
            raise Refused(400, f"{count:,} {what}, the bound is {most:,}: send them in parts")


def _embedded(encoder: Batched, rows_ND: np.ndarray) -> Embedded:
    # Seven decimals are those that float32 knows.
    rows = np.round(rows_ND.astype(np.float64), 7).tolist()
    return Embedded(model=encoder.name, fingerprint=encoder.fingerprint, dim=encoder.dim, embeddings=rows)
