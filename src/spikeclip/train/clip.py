"""Hugging Face's CLIP as the training loop sees it, and its saved form, which `ClipTeacher` opens."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import tokenizers
import torch
import torch.nn.functional as F
from safetensors.torch import save
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from spikeclip.config import TeacherTraining
from spikeclip.data.tokenizer import END, PAD, START, Tokenizer
from spikeclip.files import replacing

NORMALIZATION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Mean and standard deviation of the teacher's pictures, in [0, 1]."""
HEAD_WIDTH = 32
CONTEXT_LENGTH = 77
"""Longest text in tokens, as in CLIP."""
MAX_LOG_SCALE = math.log(100)


class ClipNetwork(nn.Module):
    """A CLIP with random weights and its tokenizer: encodes to unit embeddings."""

    def __init__(self, settings: TeacherTraining, image_size: int, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.image_size, self.tokenizer = image_size, tokenizer
        self.clip = CLIPModel(_config(settings, image_size, tokenizer))

    @property
    def logit_scale(self) -> Tensor:
        """The factor on cosine similarities."""
        return self.clip.logit_scale.exp()

    def encode_image(self, x_BCHW: Tensor) -> Tensor:
        """Embed pictures normalised by `NORMALIZATION`; returns (B, D) fp32 of unit length."""
        features_BD: Any = self.clip.get_image_features(pixel_values=x_BCHW)  # type: ignore[arg-type]
        return F.normalize(features_BD.pooler_output.float(), dim=-1)

    def encode_text(self, tokens_BL: Tensor) -> Tensor:
        """Embed token ids; returns (B, D) fp32 of unit length.

        Without a mask: attention is causal and pooled at the end token, so padding behind it has no effect.
        """
        features_BD: Any = self.clip.get_text_features(input_ids=tokens_BL)
        return F.normalize(features_BD.pooler_output.float(), dim=-1)

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Bring the factor back to at most 100: Hugging Face's model applies it as it is stored."""
        self.clip.logit_scale.clamp_(max=MAX_LOG_SCALE)

    def save(self, folder: Path) -> None:
        """Write config.json, model.safetensors, the tokenizer and preprocessor_config.json to an empty folder."""
        self.clip.config.save_pretrained(folder)
        weights = {name: value.contiguous() for name, value in self.clip.state_dict().items()}
        with replacing(folder / "model.safetensors") as file:
            file.write(save(weights, {"format": "pt"}))
        save_tokenizer(self.tokenizer, folder)
        (folder / "preprocessor_config.json").write_text(_preprocessor(self.image_size))


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer as Hugging Face's tokenizers have it: a template adds its start and end."""
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


def _config(settings: TeacherTraining, image_size: int, tokenizer: Tokenizer) -> CLIPConfig:
    size = {
        "hidden_size": settings.width,
        "intermediate_size": 4 * settings.width,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.width // HEAD_WIDTH,
    }
    text = {
        "vocab_size": tokenizer.vocab_size,
        "max_position_embeddings": CONTEXT_LENGTH,
        "bos_token_id": tokenizer.start_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    vision = {"image_size": image_size, "patch_size": settings.patch_size}
    return CLIPConfig(
        text_config=size | text,
        vision_config=size | vision,
        projection_dim=settings.width,
        architectures=["CLIPModel"],
    )


def _preprocessor(image_size: int) -> str:
    mean, std = NORMALIZATION
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
        "image_mean": list(mean),
        "image_std": list(std),
    }
    return json.dumps(settings, indent=2) + "\n"
