"""Random models of two narrow layers, saved as Hugging Face saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from spikeclip.data.tokenizer import Tokenizer

TEXTS = ["a red circle", "a very small blue square on the left", "green"]
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_dual(kind: str, folder: Path) -> tuple[Any, Any]:
    """Save a CLIP or SigLIP; returns the model and its processor."""
    torch.manual_seed(0)
    tokenizer = save_tokenizer(folder, 16)
    text = {**SIZES, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": 16}
    vision = {**SIZES, "image_size": 32, "patch_size": 8}
    if kind == "clip":
        text |= {"eos_token_id": tokenizer.eos_id, "bos_token_id": tokenizer.start_id, "projection_dim": 24}
        model = CLIPModel(
            CLIPConfig(text_config=text, vision_config={**vision, "projection_dim": 24}, projection_dim=24)
        )
        processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    else:
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def save_bert(folder: Path) -> BertModel:
    torch.manual_seed(0)
    tokenizer = save_tokenizer(folder, 16)
    config = BertConfig(vocab_size=tokenizer.vocab_size, max_position_embeddings=16, **SIZES)
    model = BertModel(config).eval()
    model.save_pretrained(folder)
    return model


def save_tokenizer(folder: Path, length: int) -> Tokenizer:
    from tokenizers import Tokenizer as Inner
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer.train(TEXTS, 300)
    tokenizer.save(folder)
    inner = Inner.from_file(str(folder / "tokenizer.json"))
    start, end = "<|startoftext|>", "<|endoftext|>"
    inner.post_processor = TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, tokenizer.start_id), (end, tokenizer.eos_id)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=start, eos_token=end, pad_token="<|pad|>", model_max_length=length
    ).save_pretrained(folder)
    return tokenizer
