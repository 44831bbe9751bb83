"""What teachers with a network share: weights, tokenizer, batches and precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from spikeclip.errors import InputError, first_line
from spikeclip.records import read_json
from spikeclip.teacher.base import Teacher
from spikeclip.teacher.folder import combined, folder_fingerprint

TEXT_BATCH = 256
_SIZES = {
    "num_hidden_layers": 256,
    "hidden_size": 16_384,
    "intermediate_size": 65_536,
    "projection_dim": 16_384,
    "num_attention_heads": 256,
    "max_position_embeddings": 65_536,
    "vocab_size": 2_000_000,
    "image_size": 4096,
}
"""Largest sizes of a teacher that is read, by their names in config.json."""


class NetworkTeacher(Teacher):
    """What teachers with a network share: the tokenizer, the batches and the precision."""

    def __init__(self, folder: Path, name: str, device: str, precision: str) -> None:
        self.folder, self.name, self.device, self.precision = folder, name, device, precision
        self.fingerprint = combined(folder_fingerprint(folder), precision)
        tokenizer_file = folder / "tokenizer.json"
        self.tokenizer_file = tokenizer_file if tokenizer_file.is_file() else None

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        try:
            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, ImportError, KeyError) as error:
            # With a tokenizer.json the class wants sentencepiece, and the file holds the same.
            if self.tokenizer_file is None:
                raise InputError(
                    f"{self.name}: its tokenizer cannot be read ({first_line(error)})"
                ) from error
            return PreTrainedTokenizerFast.from_pretrained(self.folder, local_files_only=True)

    def _batched(self, items: Any, size: int, embed: Callable[[Any], Tensor]) -> np.ndarray:
        out_ND = np.empty((len(items), self.dim), np.float32)
        device = torch.device(self.device).type
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            for i in range(0, len(items), size):
                out_ND[i : i + size] = F.normalize(embed(items[i : i + size]).float(), dim=-1).cpu().numpy()
        return out_ND


def load(cls: Any, folder: Path, name: str) -> Any:
    from transformers.utils import logging

    _check_sizes(folder, name)
    _check_types(folder, name)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, info = cls.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:
        # Unknown type, no weights, damaged file: transformers has no exception of its own.
        raise InputError(f"{name}: the model cannot be loaded ({first_line(error)})") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key or "vision" in key)
    if missing:  # transformers would go on with random numbers
        raise InputError(f"{name}: the weights lack {len(missing)} tensors, such as {missing[0]}")
    for key, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise InputError(f"{name}: {key} holds numbers that are NaN or infinite")
    return model.requires_grad_(False)


def _check_sizes(folder: Path, name: str) -> None:
    """Raise `InputError` for sizes that no teacher has: transformers would build it before it reads the weights."""
    config = read_json(folder / "config.json", default={})
    parts = [config, *(config.get(part) for part in ("text_config", "vision_config"))]
    for key, most in _SIZES.items():
        for part in parts:
            value = part.get(key) if isinstance(part, dict) else None
            if value is not None and not (isinstance(value, int) and 0 <= value <= most):
                raise InputError(
                    f"{name}: {key} of config.json must be between 0 and {most:,}, got {value!r:.80}"
                )


def _check_types(folder: Path, name: str) -> None:
    """Raise `InputError` for weights in bytes or bools: transformers would take them for numbers with a fraction."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as stored:
                types = {key: stored.get_slice(key).get_dtype() for key in stored.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors' own
            raise InputError(f"{name}: {file.name} cannot be read ({first_line(error)})") from error
        for key, dtype in types.items():
            if dtype in ("I8", "U8", "BOOL"):
                raise InputError(f"{name}: {key[:80]} holds {dtype}, and a teacher's weights are floats")
