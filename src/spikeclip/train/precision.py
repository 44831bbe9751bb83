"""Which precision pays on this processor, and whether compiling does."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

import torch


def has_bf16(device: str) -> bool:
    """Say whether a device ("cpu", "cuda") multiplies bf16 natively; emulated, it is many times slower than fp32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported()


def resolve_precision(precision: str, device: str) -> torch.dtype:
    """Return the autocast dtype of "auto" (bf16 where the device has it), "fp32" or "bf16"."""
    bf16 = has_bf16(device) if precision == "auto" else precision == "bf16"
    return torch.bfloat16 if bf16 else torch.float32


def resolve_compile(compile: Literal["auto"] | bool, device: str) -> bool:
    """Return whether towers are compiled; "auto": on a GPU, with Triton, which torch.compile needs there."""
    return device == "cuda" and find_spec("triton") is not None if compile == "auto" else compile
