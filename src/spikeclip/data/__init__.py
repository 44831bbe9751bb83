"""Pictures, captions, prompts, the tokenizer augmentation; names resolve on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikeclip.data.draws import Draws
    from spikeclip.data.known import known_datasets
    from spikeclip.data.pictures import Pictures, validation_split
    from spikeclip.data.prompts import Prompts, build_prompts, load_prompts
    from spikeclip.data.sources import load_pictures, load_training
    from spikeclip.data.tokenizer import Tokenizer
    from spikeclip.data.transforms import augment, normalize, preprocess

_HOME = {
    "Draws": "draws",
    "Pictures": "pictures",
    "validation_split": "pictures",
    "Prompts": "prompts",
    "build_prompts": "prompts",
    "load_prompts": "prompts",
    "load_pictures": "sources",
    "load_training": "sources",
    "known_datasets": "known",
    "Tokenizer": "tokenizer",
    "augment": "transforms",
    "normalize": "transforms",
    "preprocess": "transforms",
}

__all__ = [
    "Draws",
    "Pictures",
    "Prompts",
    "Tokenizer",
    "augment",
    "build_prompts",
    "known_datasets",
    "load_pictures",
    "load_prompts",
    "load_training",
    "normalize",
    "preprocess",
    "validation_split",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
