"""Zero-shot classification: pictures against the averaged embeddings of each class's prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import build_prompts
from spikeclip.data.transforms import normalize
from spikeclip.errors import InputError
from spikeclip.model import SpikeCLIP
from spikeclip.teacher import Teacher

Item = TypeVar("Item")

_CHUNK = 4096  # pictures whose logits are held at once


def class_embeddings(
    model: SpikeCLIP | Teacher, classnames: Sequence[str], templates: Sequence[str], batch_size: int = 256
) -> Tensor:
    """Return one embedding per class (K, D) float32, unit length, on the CPU: the zero-shot classifier.

    Each prompt's embedding is normalised, the prompts of a class are averaged, the average is normalised.
    Raises `InputError` for no classes, no templates or a template without {c}.
    """
    prompts = build_prompts(classnames, templates)
    flat_ND = embed_texts(model, [text for group in prompts for text in group], batch_size)
    return F.normalize(flat_ND.view(len(prompts), len(templates), -1).mean(1), dim=-1)


def embed_texts(model: SpikeCLIP | Teacher, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Return the embeddings of texts (N, D) float32, unit length, on the CPU."""
    if not texts:
        raise InputError("no texts to embed")
    if isinstance(model, Teacher):
        rows_ND = torch.from_numpy(np.array(model.embed_texts(list(texts)), np.float32))
        return F.normalize(rows_ND, dim=-1)
    device = model.log_scale.device
    with _inference(model):
        return torch.cat(
            [
                model.encode_text(
                    model.tokenize(list(texts[i : i + batch_size])).to(device), normalize=True
                ).cpu()
                for i in range(0, len(texts), batch_size)
            ]
        )


def embed_pictures(
    model: SpikeCLIP | Teacher,
    pictures: Pictures | Tensor,
    batch_size: int = 256,
    progress: bool = False,
    bf16: bool = False,
    watch: Callable[[nn.Module], AbstractContextManager] = nullcontext,
) -> Tensor:
    """Return the embeddings of pictures (N, D) float32, unit length, on the CPU.

    pictures: a split, or uint8 (N, *model.config.image.shape); a teacher resizes. bf16: autocast the
    matrix products of our model; a teacher has its own precision. watch: a context around every run of our
    model, such as `RateMeter.watch`. Raises `InputError` for pictures of another size, and for a teacher
    without an image side.
    """
    images = pictures.images if isinstance(pictures, Pictures) else pictures.numpy()
    batches = tracked(range(0, len(images), batch_size), "embedding pictures", progress)
    if isinstance(model, Teacher):
        rows = [torch.from_numpy(model.embed_images(np.array(images[i : i + batch_size]))) for i in batches]
        return F.normalize(torch.cat(rows).float(), dim=-1) if rows else torch.empty(0, model.dim)
    device = model.log_scale.device
    rows = []
    with _inference(model), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for i in batches:
            # A copy: torch refuses to wrap the read-only memory map.
            batch = torch.from_numpy(np.array(images[i : i + batch_size])).to(device)
            x = normalize(batch, *model.config.image.normalization)
            with watch(model):
                rows.append(model.encode_image(x, normalize=True).cpu())
    return torch.cat(rows) if rows else torch.empty(0, model.config.embed_dim)


def zero_shot_metrics(
    images_ND: Tensor, labels_N: Tensor | np.ndarray, classes_KD: Tensor
) -> dict[str, float]:
    """Return acc1, acc5 and mean_per_class_recall as fractions from 0 to 1, as CLIP_benchmark does.

    acc5 is NaN below five classes; the recall averages over the classes that occur. Raises `InputError` for
    no pictures, labels outside the classes, and embeddings that are not numbers.
    """
    labels_N = torch.as_tensor(labels_N, dtype=torch.long, device=images_ND.device)
    count, classes = len(images_ND), len(classes_KD)
    check_embeddings("pictures", images_ND)
    check_embeddings("classes", classes_KD)
    if labels_N.shape != (count,) or images_ND.shape[1:] != classes_KD.shape[1:]:
        raise InputError(
            f"pictures {tuple(images_ND.shape)}, labels {tuple(labels_N.shape)} and classes "
            f"{tuple(classes_KD.shape)} do not fit: expected (N, D), (N,) and (K, D)"
        )
    if labels_N.min() < 0 or labels_N.max() >= classes:
        raise InputError(
            f"labels go from {int(labels_N.min())} to {int(labels_N.max())}, but there are {classes} classes"
        )
    classes_KD = classes_KD.to(images_ND.device)
    top_NM = torch.cat(
        [(rows @ classes_KD.T).topk(min(5, classes)).indices for rows in images_ND.split(_CHUNK)]
    )
    hit_NM = top_NM == labels_N[:, None]
    totals_K = torch.bincount(labels_N, minlength=classes)
    hits_K = torch.bincount(labels_N[hit_NM[:, 0]], minlength=classes)
    present_K = totals_K > 0
    return {
        "acc1": hit_NM[:, 0].double().mean().item(),
        "acc5": hit_NM.any(1).double().mean().item() if classes >= 5 else math.nan,
        "mean_per_class_recall": (hits_K[present_K].double() / totals_K[present_K]).mean().item(),
    }


def check_embeddings(what: str, embeddings_ND: Tensor) -> None:
    """Raise `InputError` where there are no embeddings or some are not numbers; `what` names them."""
    if embeddings_ND.ndim != 2 or not len(embeddings_ND):
        raise InputError(f"expected embeddings of {what} of shape (N, D), got {tuple(embeddings_ND.shape)}")
    bad = int((~torch.isfinite(embeddings_ND).all(1)).sum())
    if bad:
        raise InputError(
            f"{bad} of {len(embeddings_ND)} embeddings of {what} are not numbers (NaN or infinite)"
        )


def tracked(items: Sequence[Item], title: str, progress: bool) -> Iterable[Item]:
    """Return `items` with a progress bar around them, where one is wanted and stderr is a terminal."""
    console = Console(stderr=True)
    shown = progress and console.is_terminal
    return track(items, title, transient=True, console=console) if shown else items


@contextmanager
def _inference(model: SpikeCLIP) -> Iterator[None]:
    """Evaluation mode without gradients; every module gets its own mode back."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode
