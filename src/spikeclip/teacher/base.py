"""Any CLIP-like teacher behind one small interface: images and texts in, unit-length embeddings out."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from spikeclip.data.pictures import Pictures
from spikeclip.errors import InputError, missing_extra
from spikeclip.teacher.folder import local_folder, read_json


class Teacher:
    """A frozen model that a student learns from. `Teacher.from_pretrained` returns the right kind.

    Every embedding is (N, dim) float32 and of unit length. A teacher without images has `has_images` False.
    """

    name: str
    dim: int
    fingerprint: str
    """Hash of weights, configuration and tokenizer."""
    transform_fingerprint: str = ""
    """Hash of what happens to a picture before the network, and of the precision."""
    has_images: bool = False
    logit_scale: float = 100.0
    """Factor (not its logarithm) on the cosine between image and text."""
    logit_bias: float = 0.0
    """Added to the scaled cosine; other than 0 for SigLIP only."""
    tokenizer_file: Path | None = None
    """A `tokenizer.json` that reads the teacher's texts, where there is one."""
    texts: list[str] | None = None
    """All the texts a table knows; None for a teacher that reads any text."""

    @staticmethod
    def from_pretrained(
        source: str | Path | Sequence[str | Path],
        *,
        device: str = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> Teacher:
        """Open a CLIP or SigLIP model, a sentence encoder (folder or hub name), or `.npz` tables of embeddings.

        A folder that exists is never looked up on the hub. Raises `InputError` where nothing usable is found.
        """
        from spikeclip.teacher.table import TableTeacher

        sources = [source] if isinstance(source, (str, Path)) else list(source)
        paths = [Path(s).expanduser() for s in sources]
        if paths and all(path.suffix == ".npz" for path in paths):
            return TableTeacher(paths)
        if len(paths) != 1:
            raise InputError(f"several teachers in one must be .npz tables, got {[str(p) for p in paths]}")
        if find_spec("transformers") is None:
            raise missing_extra("transformers", "train")
        from spikeclip.teacher.clip import PADDING, ClipTeacher
        from spikeclip.teacher.sentence import SentenceTeacher

        source = str(sources[0])
        folder = local_folder(source)
        if (folder / "modules.json").is_file():
            return SentenceTeacher(folder, source, device, precision)
        config = read_json(folder / "config.json")
        kind = config.get("model_type")
        if kind in PADDING:
            return ClipTeacher(folder, source, device, precision)
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

        if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_encoder_decoder"):
            return SentenceTeacher(folder, source, device, precision)
        raise InputError(
            f"{source}: cannot teach with a model of type {kind!r}; it must be clip, siglip, a text encoder "
            "such as bert, a sentence-transformers folder, or an .npz table of embeddings"
        )

    def embed_images(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Embed pictures (N, H, W, 3) uint8 -> (N, dim)."""
        raise InputError(f"teacher {self.name} embeds text only; images need a CLIP or SigLIP teacher")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim)."""
        raise NotImplementedError

    def knows(self, text: str) -> bool:
        """Whether `embed_texts` has this text; a table holds only some."""
        return True

    def find_images(self, pictures: Pictures) -> np.ndarray:
        """Return stored embeddings of pictures (N, dim), NaN where there is none; tables alone have some."""
        return np.full((len(pictures), self.dim), np.nan, np.float32)

    def find_classes(self, keys: Sequence[Sequence[str]]) -> np.ndarray:
        """Return stored prototypes of classes (K, dim), NaN where there is none; tables alone have some.

        keys: of each class the names to look for, such as its WordNet id and its name.
        """
        return np.full((len(keys), self.dim), np.nan, np.float32)
