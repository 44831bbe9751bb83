"""Training of a small CLIP, for data without a teacher of its own: pictures and their captions, InfoNCE."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import torch.nn.functional as F
from rich.console import Console
from safetensors.torch import save_file
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from spikeclip.config import AugmentConfig, OptimizerConfig
from spikeclip.data.draws import Draws
from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import build_prompts
from spikeclip.data.tokenizer import END, PAD, START, Tokenizer
from spikeclip.data.transforms import augment, normalize
from spikeclip.errors import InputError
from spikeclip.files import check_free
from spikeclip.losses import contrastive_loss
from spikeclip.train.optimizer import make_optimizers, schedule
from spikeclip.train.precision import resolve_precision
from spikeclip.train.report import progress_bar
from spikeclip.train.stages import trim

TEMPLATE = "a photo of a {c}."
"""Caption of a picture that has only a label."""
MEAN = STD = (0.5, 0.5, 0.5)
"""Normalisation of the teacher's pictures, in [0, 1]."""
HEAD_WIDTH = 32
CONTEXT_LENGTH = 77
"""Longest text in tokens, as in CLIP."""
CLIP_NORM = 1.0
MAX_LOG_SCALE = math.log(100)


def train_teacher(
    pictures: Pictures,
    validation: Pictures,
    out: Path,
    *,
    width: int = 96,
    layers: int = 2,
    patch_size: int = 8,
    epochs: int = 11,
    batch_size: int = 96,
    lr: float = 1e-3,
    seed: int = 0,
    vocab_size: int = 2048,
    title: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a CLIP from random weights and save it to `out` in Hugging Face's format, for `Teacher` to open.

    pictures, validation: with captions, or with labels, which add the caption "a photo of a {c}.". At each step
    one of a picture's captions is drawn, and none of its captions is a negative. width, layers: of both
    transformers, width a multiple of 32 and also the dimension of the embedding. patch_size: in pixels, divides
    the pictures' side. lr: at its peak. The weights with the best validation score are kept, and `out` appears
    whole at the end or not at all; a teacher that was there is replaced.

    Returns {"val_recall@1" (share of pictures nearest to their own of all first captions) or, without captions,
    "val_acc1", "best_epoch", "epochs", "seconds", "parameters", "logit_scale", "history"}. Raises `InputError`
    for settings that do not fit, for pictures without captions or labels, for an `out` that is not a teacher's,
    and when the loss stops being a number.
    """
    _check(pictures, out, width, layers, patch_size, epochs, batch_size)
    texts, own_NM = _texts(pictures)
    val_texts, val_own_NM = _texts(_first_captions(validation))
    tokenizer = Tokenizer.train(texts, vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(_config(tokenizer, pictures.images.shape[1], width, layers, patch_size))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)  # type: ignore[arg-type]
    precision = resolve_precision("auto", device.type)
    tokens_NL, val_tokens_NL = tokenizer(texts, CONTEXT_LENGTH), tokenizer(val_texts, CONTEXT_LENGTH)
    # No flips where captions may say left and right.
    augmentation = AugmentConfig(crop=1, flip="random" if pictures.captions is None else "none")
    settings = OptimizerConfig(lr=lr, weight_decay=0.1, warmup=0.1, clip_norm=CLIP_NORM)
    (optimizer,) = make_optimizers(model, settings)
    generator = torch.Generator().manual_seed(seed)
    steps = max(1, len(pictures) // batch_size)
    score_name = "val_acc1" if pictures.captions is None else "val_recall@1"
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"score": -1.0}

    started = time.monotonic()
    console = Console(quiet=quiet, stderr=True)
    bar = progress_bar(console)
    with bar:
        task = bar.add_task(f"{title}contrastive", total=epochs * steps, info="")
        for epoch in range(epochs):
            model.train()
            total = 0.0
            order = torch.randperm(len(pictures), generator=generator)
            for step in range(steps):
                indices = order[step * batch_size :][:batch_size]
                ids_B = _draw(own_NM[indices], generator)
                same_BB = (own_NM[indices][:, None, :] == ids_B[None, :, None]).any(-1)
                images_BHWC = torch.from_numpy(pictures.images[indices.numpy()])
                images_BHWC = augment(images_BHWC, augmentation, Draws(seed, epoch, indices))
                x_BCHW = normalize(images_BHWC.to(device), MEAN, STD)
                tokens_BL = trim(tokens_NL[ids_B], tokenizer.eos_id).to(device)
                loss = _loss(model, x_BCHW, tokens_BL, same_BB.to(device), precision)
                if not math.isfinite(loss.item()):
                    raise InputError(
                        f"the teacher's loss is not a number in epoch {epoch + 1}; lower the learning rate"
                    )
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
                done = epoch * steps + step
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * schedule(done, epochs * steps, settings)
                optimizer.step()
                optimizer.zero_grad()
                model.logit_scale.data.clamp_(max=MAX_LOG_SCALE)
                total += loss.item()
                rate = (done + 1) * len(indices) / (time.monotonic() - started)
                bar.update(task, advance=1, info=f"loss {loss.item():.3f}  {rate:.0f}/s")
            score = _score(model, validation, val_tokens_NL, val_own_NM)
            history.append({"epoch": epoch + 1, "loss": total / steps, score_name: score})
            console.print(
                f"{title}contrastive epoch {epoch + 1}  loss {total / steps:.4f}  {score_name} {score:.4f}",
                highlight=False,
            )
            if score >= best["score"]:
                state = {name: value.clone() for name, value in model.state_dict().items()}
                best = {"score": score, "epoch": epoch + 1, "state": state}
    model.load_state_dict(best["state"])
    _save(model, tokenizer, pictures.images.shape[1], out)
    return {
        score_name: best["score"],
        "best_epoch": best["epoch"],
        "epochs": epochs,
        "seconds": time.monotonic() - started,
        "parameters": sum(p.numel() for p in model.parameters()),
        "logit_scale": model.logit_scale.exp().item(),
        "history": history,
    }


def _check(
    pictures: Pictures, out: Path, width: int, layers: int, patch_size: int, epochs: int, batch_size: int
) -> None:
    side = pictures.images.shape[1]
    for name, value, least in (
        ("layers", layers, 1),
        ("patch_size", patch_size, 1),
        ("epochs", epochs, 1),
        ("batch_size", batch_size, 2),
    ):
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    if width < HEAD_WIDTH or width % HEAD_WIDTH:
        raise InputError(f"width must be a multiple of {HEAD_WIDTH}, got {width}")
    if side % patch_size:
        raise InputError(f"patch_size must divide the pictures' side of {side} pixels, got {patch_size}")
    teacher = all((out / name).is_file() for name in ("config.json", "model.safetensors"))
    check_free(out, "teacher", teacher)


def _texts(pictures: Pictures) -> tuple[list[str], Tensor]:
    """Return the different texts, every class's prompt among them, and each picture's rows (N, M), -1 for none."""
    groups = [list(group) for group in pictures.captions or [[]] * len(pictures)]
    place: dict[str, int] = {}
    if pictures.labels is not None:
        prompts = [prompt for (prompt,) in build_prompts(pictures.classnames, [TEMPLATE])]
        place = {text: i for i, text in enumerate(dict.fromkeys(prompts))}
        groups = [[*group, prompts[label]] for group, label in zip(groups, pictures.labels, strict=True)]
    if not all(groups):
        raise InputError(f"{pictures.name} {pictures.split}: a picture with neither a caption nor a label")
    rows = [[place.setdefault(text, len(place)) for text in group] for group in groups]
    most = max(map(len, rows))
    return list(place), torch.tensor([row + [-1] * (most - len(row)) for row in rows])


def _first_captions(pictures: Pictures) -> Pictures:
    """Keep one caption a picture, where there are any: shorter ones may be true of other pictures too."""
    if pictures.captions is None:
        return pictures
    return dataclasses.replace(pictures, captions=[group[:1] for group in pictures.captions], labels=None)


def _config(tokenizer: Tokenizer, image_size: int, width: int, layers: int, patch_size: int) -> CLIPConfig:
    size = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // HEAD_WIDTH,
    }
    text = {
        "vocab_size": tokenizer.vocab_size,
        "max_position_embeddings": CONTEXT_LENGTH,
        "bos_token_id": tokenizer.start_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    vision = {"image_size": image_size, "patch_size": patch_size}
    return CLIPConfig(
        text_config=size | text,
        vision_config=size | vision,
        projection_dim=width,
        architectures=["CLIPModel"],
    )


def _draw(own_BM: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one of each picture's texts (B,)."""
    share_B = torch.rand(len(own_BM), generator=generator)
    place_B = (share_B * (own_BM >= 0).sum(1)).long()
    return own_BM.gather(1, place_B[:, None])[:, 0]


def _loss(
    model: CLIPModel, x_BCHW: Tensor, tokens_BL: Tensor, same_BB: Tensor, precision: torch.dtype
) -> Tensor:
    """InfoNCE; same_BB: True where the text of the column is one of those of the row's picture."""
    with torch.autocast(x_BCHW.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        image_BD, text_BD = _embed_images(model, x_BCHW), _embed_texts(model, tokens_BL)
    return contrastive_loss(image_BD, text_BD, model.logit_scale.exp(), same_BB)


def _embed_images(model: CLIPModel, x_BCHW: Tensor) -> Tensor:
    features_BD: Any = model.get_image_features(pixel_values=x_BCHW)  # type: ignore[arg-type]
    return F.normalize(features_BD.pooler_output.float(), dim=-1)


def _embed_texts(model: CLIPModel, tokens_BL: Tensor) -> Tensor:
    """Without a mask: attention is causal and pooled at the end token, so padding behind it has no effect."""
    features_BD: Any = model.get_text_features(input_ids=tokens_BL)
    return F.normalize(features_BD.pooler_output.float(), dim=-1)


@torch.no_grad()
def _score(model: CLIPModel, pictures: Pictures, tokens_TL: Tensor, own_NM: Tensor) -> float:
    """Share of the pictures whose nearest text is one of their own."""
    model.eval()
    device = model.logit_scale.device
    texts_TD = torch.cat([_embed_texts(model, rows.to(device)) for rows in tokens_TL.split(512)])
    hits = 0
    for start in range(0, len(pictures), 512):
        images_BHWC = torch.from_numpy(np.array(pictures.images[start : start + 512])).to(device)
        nearest_B = (_embed_images(model, normalize(images_BHWC, MEAN, STD)) @ texts_TD.T).argmax(1)
        hits += int((own_NM[start : start + 512] == nearest_B.cpu()[:, None]).sum())
    return hits / len(pictures)


def _save(model: CLIPModel, tokenizer: Tokenizer, image_size: int, out: Path) -> None:
    """Write the folder beside `out` and rename it, so that no one meets half of it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    new, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        new.mkdir()
        model.config.save_pretrained(new)
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(weights, new / "model.safetensors", {"format": "pt"})
        _save_tokenizer(tokenizer, new)
        (new / "preprocessor_config.json").write_text(_preprocessor(image_size))
        if out.exists():
            out.rename(old)
        new.rename(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not out.exists():  # interrupted between the two
            old.rename(out)
        shutil.rmtree(old, ignore_errors=True)


def _save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write it as Hugging Face's tokenizers have it: they add start and end by a template of their own."""
    tokenizer.save(folder)
    inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = [(START, tokenizer.start_id), (END, tokenizer.eos_id)]
    inner.post_processor = TemplateProcessing(single=f"{START} $A {END}", special_tokens=special)  # type: ignore
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT_LENGTH,
    ).save_pretrained(folder)


def _preprocessor(image_size: int) -> str:
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": image_size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": image_size, "width": image_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    return json.dumps(settings, indent=2) + "\n"
