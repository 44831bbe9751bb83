"""A sentence encoder as a teacher of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from spikeclip.encode.encoder import text_list
from spikeclip.errors import InputError
from spikeclip.records import read_json
from spikeclip.teacher.network import TEXT_BATCH, NetworkTeacher, load


class SentenceTeacher(NetworkTeacher):
    """A text encoder with pooling: the sentence-transformers layout, or a plain encoder with mean pooling."""

    logit_scale = 20.0  # the scale that sentence-transformers trains cosines with

    def __init__(self, folder: Path, name: str, device: str = "cpu", precision: str = "fp32") -> None:
        from transformers import AutoModel

        super().__init__(folder, name, device, precision)
        transformer, self.pooling = folder, "mean"
        self.max_length: int | None = None
        for kind, path in _modules(folder, name):
            if kind == "Transformer":
                transformer = path
                self.max_length = read_json(path / "sentence_bert_config.json", default={}).get(
                    "max_seq_length"
                )
            elif kind == "Pooling":
                self.pooling = _pooling(read_json(path / "config.json", default={}), name)
            elif kind != "Normalize":
                raise InputError(f"{name}: sentence-transformers module {kind!r} is not supported")
        self.model: Any = load(AutoModel, transformer, name).to(device).eval()
        self.folder = transformer
        if (transformer / "tokenizer.json").is_file():
            self.tokenizer_file = transformer / "tokenizer.json"
        self.max_length = self.max_length or min(self.model.config.max_position_embeddings, 512)
        self.dim = self.model.config.hidden_size

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim)."""

        def embed(batch: Sequence[str]) -> Tensor:
            tokens = self._tokenizer(
                list(batch), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
            ).to(self.device)
            h_BND = self.model(**tokens).last_hidden_state
            if self.pooling == "cls":
                return h_BND[:, 0]
            mask_BN1 = tokens["attention_mask"][..., None].to(h_BND.dtype)
            return (h_BND * mask_BN1).sum(1) / mask_BN1.sum(1)

        return self._batched(text_list(texts), TEXT_BATCH, embed)


def _modules(folder: Path, name: str) -> list[tuple[str, Path]]:
    """Return the kinds and folders of the modules that modules.json lists; none where there is no such file."""
    modules = []
    for module in read_json(folder / "modules.json", default=[]):
        try:
            kind, path = module["type"].rsplit(".", 1)[-1], module["path"]
            inside = ".." not in Path(path).parts and not Path(path).is_absolute()
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{name}: modules.json is damaged: expected a type and a path, got {module!r:.80}"
            ) from error
        if not inside:
            raise InputError(f"{name}: modules.json leads out of the folder, to {path!r:.80}")
        modules.append((kind, folder / path))
    return modules


def _pooling(config: dict[str, Any], name: str) -> Literal["mean", "cls"]:
    modes = [
        k.removeprefix("pooling_mode_")
        for k, v in config.items()
        if k.startswith("pooling_mode_") and v is True
    ]
    mode = config.get("pooling_mode") or (modes[0] if len(modes) == 1 else modes)
    if mode in ("mean", "mean_tokens"):
        return "mean"
    if mode in ("cls", "cls_token"):
        return "cls"
    raise InputError(f"{name}: pooling {mode} is not supported; expected mean or cls")
