"""CLIP-style spiking neural networks: train, evaluate, run and serve."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "InputError": "spikeclip.errors",
    "LIF": "spikeclip.neurons",
    "PLIF": "spikeclip.neurons",
    "ILIF": "spikeclip.neurons",
    "SpikeCLIP": "spikeclip.model",
    "Teacher": "spikeclip.teacher",
    "classify": "spikeclip.encode.classify",
    "create_model": "spikeclip.model",
    "from_pretrained": "spikeclip.open",
    "interpolate": "spikeclip.model",
    "list_models": "spikeclip.model",
    "list_pretrained": "spikeclip.pretrained.shipped",
    "load_published": "spikeclip.export.published",
    "open_encoder": "spikeclip.open",
    "preprocess": "spikeclip.encode.embed",
    "zero_shot_classifier": "spikeclip.encode.embed",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'spikeclip' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    except ModuleNotFoundError as error:
        from spikeclip.errors import missing_module

        raise missing_module(error) from error


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
