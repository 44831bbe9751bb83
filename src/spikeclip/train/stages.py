"""The four stages. Each says what it trains, what a batch is, what it costs and how it is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip import losses
from spikeclip.config import LossConfig, StageConfig
from spikeclip.data.draws import Draws
from spikeclip.data.transforms import augment, normalize
from spikeclip.encode.embed import embed_pictures, zero_shot_classifier
from spikeclip.encode.student import Student
from spikeclip.errors import InputError
from spikeclip.evaluate.retrieval import retrieval_metrics
from spikeclip.evaluate.zero_shot import zero_shot_metrics
from spikeclip.model import SpikeCLIP
from spikeclip.train.material import Material, known_or
from spikeclip.train.targets import draw_text, picture_of_text, target_embeddings

Batch = dict[str, Tensor]


@dataclass
class Stage:
    """One stage of a run.

    samples: pictures or texts of one epoch. trains: which parts of the model learn. inputs(indices, epoch,
    generator): what the towers read. features(model, inputs): what they make of it. loss(model, features,
    targets): the sum and its terms, on the whole batch of all processes. targets(indices, generator): what the
    loss compares with. score(model): validation, larger is better.
    """

    config: StageConfig
    samples: int
    trains: tuple[str, ...]
    inputs: Callable[[Tensor, int, torch.Generator], Batch]
    targets: Callable[[Tensor, torch.Generator], Batch]
    features: Callable[[SpikeCLIP, Batch], Batch]
    loss: Callable[[SpikeCLIP, Batch, Batch], dict[str, Tensor]]
    score: Callable[[SpikeCLIP], float]
    score_name: str


def make_stage(config: StageConfig, material: Material, model: SpikeCLIP) -> Stage:
    """Build the stage that `config` names; raises `InputError` where the run lacks what it needs."""
    if config.stage != "contrastive" and material.teacher_texts_ND is None:
        raise InputError(
            f"stage {config.stage} needs a teacher: set teacher.path (contrastive is the stage without)"
        )
    builders = {
        "align_text": _align_text,
        "align_image": _align_image,
        "finetune": _finetune,
        "contrastive": _contrastive,
    }
    return builders[config.stage](config, material, model)


def _align_text(config: StageConfig, material: Material, model: SpikeCLIP) -> Stage:
    """Text tower to the teacher's text embeddings."""
    assert material.teacher_texts_ND is not None
    teacher_ND = material.teacher_texts_ND
    tokens_NL = material.tokenizer(material.texts, model.config.text.context_length)
    held, everything = material.held_texts, torch.arange(len(material.texts))
    learned = everything if len(held) == len(everything) else everything[~torch.isin(everything, held)]
    mean_D = teacher_ND[learned].mean(0)
    picture_of = picture_of_text(material)
    images = material.teacher_images["train"]
    if images is not None and images.isnan().any():
        images = None  # a teacher of some pictures is no partner for all texts
    weights = config.loss

    def inputs(indices: Tensor, epoch: int, generator: torch.Generator) -> Batch:
        return {"tokens": trim(tokens_NL[learned[indices]], model.config.text.eos_id)}

    def targets(indices: Tensor, generator: torch.Generator) -> Batch:
        rows = learned[indices]
        if not weights.interactive or images is None:
            return {"text": teacher_ND[rows]}
        return {"text": teacher_ND[rows], "image": images[picture_of[rows]], "id": picture_of[rows]}

    def features(model: SpikeCLIP, batch: Batch) -> Batch:
        return {"text": model.encode_text(batch["tokens"], normalize=True)}

    def loss(model: SpikeCLIP, made: Batch, wanted: Batch) -> dict[str, Tensor]:
        terms = _distil(model, made["text"], wanted["text"], weights, material.teacher_scale)
        if weights.interactive and "image" in wanted:
            pairs = _pairs(model, made["text"], wanted["image"], wanted["id"])
            terms["interactive"] = weights.interactive * pairs
        elif weights.interactive:
            terms["interactive"] = weights.interactive * losses.contrastive_loss(
                made["text"], wanted["text"], model.logit_scale
            )
        return terms

    # What is held out is soon as good as it gets, and the names that later stages read are not: both count.
    scored = [held, material.prompt_rows] if len(learned) < len(everything) else [held]

    def score(model: SpikeCLIP) -> float:
        # Centred: a tower that answers any text with the mean has a cosine of 0.86 to CLIP, and has learned nothing.
        means = []
        for rows in filter(len, scored):
            made = _encode_texts(model, tokens_NL[rows])
            means.append(F.cosine_similarity(made - mean_D, teacher_ND[rows] - mean_D).mean())
        return torch.stack(means).mean().item()

    return Stage(
        config,
        len(learned),
        ("text", *_scale(weights)),
        inputs,
        targets,
        features,
        loss,
        score,
        "val_centred_cosine",
    )


def _align_image(config: StageConfig, material: Material, model: SpikeCLIP) -> Stage:
    """Image tower to the teacher's embeddings of the picture, of its class or of its texts."""
    assert material.teacher_texts_ND is not None
    texts_ND, weights = material.teacher_texts_ND, config.loss
    scaled_DN = _scaled_texts(material)
    pictures, labels = material.pictures["train"], material.labels["train"]
    labelled = len(labels) > 0
    if weights.prototype and not labelled:
        raise InputError("loss.prototype needs labels, and this data has captions only")
    classes_KD = material.class_targets_KD if labelled else None
    # Scored by text, as the network will be used, where every class has one.
    scored_KD = material.teacher_classes_KD if labelled else None
    if scored_KD is not None and scored_KD.isnan().any():
        scored_KD = classes_KD

    def targets(indices: Tensor, generator: torch.Generator) -> Batch:
        rows = draw_text(material.text_of["train"], indices, generator)
        wanted = {
            "text": texts_ND[rows],
            "image": target_embeddings(config.target, material, indices, rows),
            "id": rows,
        }
        return {**wanted, "label": labels[indices]} if labelled else wanted

    def loss(model: SpikeCLIP, made: Batch, wanted: Batch) -> dict[str, Tensor]:
        terms = _distil(model, made["image"], wanted["image"], weights, material.teacher_scale)
        if weights.interactive:
            pairs = _pairs(model, made["image"], wanted["text"], wanted["id"])
            terms["interactive"] = weights.interactive * pairs
        if weights.prototype and classes_KD is not None:
            logits_BK = model.logit_scale * made["image"] @ classes_KD.to(made["image"].device).T
            terms["prototype"] = weights.prototype * F.cross_entropy(
                logits_BK, wanted["label"], label_smoothing=weights.label_smoothing
            )
        if weights.texts:
            terms["texts"] = weights.texts * _texts_kl(made["image"], wanted["image"], scaled_DN)
        return terms

    def score(model: SpikeCLIP) -> float:
        made = embed_pictures(Student(model), material.pictures["val"])
        if scored_KD is not None:
            return zero_shot_metrics(made, material.labels["val"].numpy(), scored_KD.numpy())["acc1"]
        wanted, images = texts_ND[material.text_of["val"][:, 0]], material.teacher_images["val"]
        wanted = wanted if images is None else known_or(images, wanted)
        return F.cosine_similarity(torch.from_numpy(made), wanted).mean().item()

    name = "val_acc1" if labelled else "val_cosine"
    return Stage(
        config,
        len(pictures),
        ("image", *_scale(weights)),
        _picture_inputs(config, material, model),
        targets,
        _encode_pictures,
        loss,
        score,
        name,
    )


def _finetune(config: StageConfig, material: Material, model: SpikeCLIP) -> Stage:
    """Image tower to the classes: cross-entropy and KL to the teacher, over frozen text embeddings.

    With `keep` also KL to itself: what it said of each picture, as it is, before the stage.
    """
    if not len(material.labels["train"]):
        raise InputError("stage finetune needs labels, and this data has captions only")
    pictures, weights = material.pictures["train"], config.loss
    labels, images = material.labels["train"], material.teacher_images["train"]
    teacher_KD = material.teacher_classes_KD
    if teacher_KD.isnan().any():
        silent = sum(not prompts for prompts in material.class_prompts)
        raise InputError(
            f"stage finetune needs the teacher's text embedding of every class; {silent} have none"
        )
    student_KD = class_embeddings_of(model, material)
    scaled_DN = _scaled_texts(material)
    said_ND = (
        torch.from_numpy(embed_pictures(Student(model), pictures, progress=True)) if weights.keep else None
    )

    def targets(indices: Tensor, generator: torch.Generator) -> Batch:
        # Of a picture that it does not know the teacher's view is the name of its class.
        seen = teacher_KD[labels[indices]]
        if images is not None:
            seen = known_or(images[indices], seen)
        wanted = {"label": labels[indices], "teacher": material.teacher_scale * seen @ teacher_KD.T}
        return wanted if said_ND is None else {**wanted, "said": said_ND[indices]}

    def loss(model: SpikeCLIP, made: Batch, wanted: Batch) -> dict[str, Tensor]:
        logits_BK = model.logit_scale * made["image"] @ student_KD.to(made["image"].device).T
        terms = {}
        if weights.ce:
            terms["ce"] = weights.ce * F.cross_entropy(
                logits_BK, wanted["label"], label_smoothing=weights.label_smoothing
            )
        if weights.kl:
            terms["kl"] = weights.kl * losses.kl_loss(logits_BK, wanted["teacher"], weights.temperature)
        if weights.keep:
            terms["keep"] = weights.keep * _texts_kl(made["image"], wanted["said"], scaled_DN)
        return terms

    def score(model: SpikeCLIP) -> float:
        made = embed_pictures(Student(model), material.pictures["val"])
        return zero_shot_metrics(made, material.labels["val"].numpy(), student_KD.numpy())["acc1"]

    return Stage(
        config,
        len(pictures),
        ("image", "log_scale"),
        _picture_inputs(config, material, model),
        targets,
        _encode_pictures,
        loss,
        score,
        "val_acc1",
    )


def _contrastive(config: StageConfig, material: Material, model: SpikeCLIP) -> Stage:
    """Both towers on picture-text pairs, without a teacher."""
    pictures, text_of = material.pictures["train"], material.text_of["train"]
    tokens_NL = material.tokenizer(material.texts, model.config.text.context_length)
    picture_inputs = _picture_inputs(config, material, model)

    def inputs(indices: Tensor, epoch: int, generator: torch.Generator) -> Batch:
        # The text is drawn first and `targets` gets a generator in the same state, so both see the same one.
        rows = draw_text(text_of, indices, generator)
        tokens = trim(tokens_NL[rows], model.config.text.eos_id)
        return {"tokens": tokens, **picture_inputs(indices, epoch, generator)}

    def targets(indices: Tensor, generator: torch.Generator) -> Batch:
        return {"id": draw_text(text_of, indices, generator)}

    def features(model: SpikeCLIP, batch: Batch) -> Batch:
        return {**_encode_pictures(model, batch), "text": model.encode_text(batch["tokens"], normalize=True)}

    def loss(model: SpikeCLIP, made: Batch, wanted: Batch) -> dict[str, Tensor]:
        same, scale = _same(wanted["id"]), model.logit_scale
        if config.loss.contrastive == "sigmoid":
            return {
                "sigmoid": losses.sigmoid_loss(made["image"], made["text"], scale, model.logit_bias, same)
            }
        return {"infonce": losses.contrastive_loss(made["image"], made["text"], scale, same)}

    def score(model: SpikeCLIP) -> float:
        made = embed_pictures(Student(model), material.pictures["val"])
        if len(material.labels["val"]):
            return zero_shot_metrics(
                made, material.labels["val"].numpy(), class_embeddings_of(model, material).numpy()
            )["acc1"]
        texts = _encode_texts(model, tokens_NL[material.text_of["val"][:, 0]])
        return retrieval_metrics(made, texts.numpy(), np.arange(len(made)))["image_retrieval_recall@1"]

    trains = ("image", "text", "log_scale", *(["logit_bias"] if config.loss.contrastive == "sigmoid" else []))
    name = "val_acc1" if len(material.labels["val"]) else "val_recall@1"
    return Stage(config, len(pictures), trains, inputs, targets, features, loss, score, name)


def class_embeddings_of(model: SpikeCLIP, material: Material) -> Tensor:
    """Return the model's embeddings (K, D) of the classes that occur in training."""
    present = torch.unique(torch.from_numpy(material.pictures["train"].labels)).tolist()
    names = [material.pictures["train"].classnames[i] for i in present]
    return torch.from_numpy(zero_shot_classifier(Student(model), names, material.config.data.templates))


def trim(tokens_BL: Tensor, eos_id: int) -> Tensor:
    """Drop the columns that are padding in every row; every text ends in `eos_id`."""
    return tokens_BL[:, : int((tokens_BL == eos_id).int().argmax(1).max()) + 1]


def _distil(
    model: SpikeCLIP, made: Tensor, wanted: Tensor, weights: LossConfig, teacher_scale: float
) -> dict[str, Tensor]:
    terms = {}
    if weights.cosine:
        terms["cosine"] = weights.cosine * losses.cosine_loss(made, wanted)
    if weights.relational:
        terms["relational"] = weights.relational * losses.relational_loss(
            made, wanted, model.logit_scale, teacher_scale
        )
    return terms


def _scaled_texts(material: Material) -> Tensor:
    """All texts that the teacher knows, times its scale, (D, N): an embedding times them is what it says of them."""
    assert material.teacher_texts_ND is not None
    return material.teacher_scale * material.teacher_texts_ND[material.known_texts].T


def _texts_kl(made_BD: Tensor, wanted_BD: Tensor, scaled_DN: Tensor) -> Tensor:
    """KL between what two embeddings of a picture say of `_scaled_texts`."""
    scaled_DN = scaled_DN.to(made_BD.device)
    return losses.kl_loss(made_BD @ scaled_DN, wanted_BD @ scaled_DN)


def _scale(weights: LossConfig) -> tuple[str, ...]:
    """The temperature learns only where a term of an alignment stage reads it."""
    return ("log_scale",) if weights.interactive or weights.relational or weights.prototype else ()


def _encode_pictures(model: SpikeCLIP, batch: Batch) -> Batch:
    return {"image": model.encode_image(batch["images"], normalize=True)}


def _encode_texts(model: SpikeCLIP, tokens_NL: Tensor) -> Tensor:
    device = model.log_scale.device
    return torch.cat(
        [model.encode_text(chunk.to(device), normalize=True).cpu() for chunk in tokens_NL.split(512)]
    )


def _picture_inputs(config: StageConfig, material: Material, model: SpikeCLIP) -> Callable:
    pictures, seed = material.pictures["train"].images, material.config.seed
    mean, std = model.config.image.normalization

    def inputs(indices: Tensor, epoch: int, generator: torch.Generator) -> Batch:
        images = torch.from_numpy(pictures[indices.numpy()])
        images = augment(images, config.augment, Draws(seed, epoch, indices), mean)
        return {"images": normalize(images, mean, std)}

    return inputs


def _pairs(model: SpikeCLIP, made: Tensor, wanted: Tensor, ids: Tensor) -> Tensor:
    """Contrastive loss over the rows that have a partner, ids >= 0."""
    paired = ids >= 0
    if not paired.any():
        return 0 * model.logit_scale  # and no parameter unused
    ids = ids[paired]
    return losses.contrastive_loss(made[paired], wanted[paired], model.logit_scale, _same(ids))


def _same(ids: Tensor) -> Tensor:
    return ids[:, None] == ids[None, :]
