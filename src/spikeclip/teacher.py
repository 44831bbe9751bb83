"""Any CLIP-like teacher behind one small interface: images and texts in, unit-length embeddings out."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import string
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.embedding_cache import cached_image_embeddings, cached_text_embeddings, folder_fingerprint
from spikeclip.errors import InputError, missing_extra

__all__ = ["Teacher", "cached_image_embeddings", "cached_text_embeddings"]

_EMBED_BATCH = 256


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
        source: str | Path, *, device: str = "cpu", precision: Literal["fp32", "bf16"] = "fp32"
    ) -> Teacher:
        """Open a CLIP or SigLIP model, a sentence encoder (folder or hub name) or an `.npz` table of texts.

        A folder that exists is never looked up on the hub. Raises `InputError` where nothing usable is found.
        """
        path = Path(source).expanduser()
        if path.suffix == ".npz":
            return TableTeacher(path)
        if find_spec("transformers") is None:
            raise missing_extra("transformers", "train")
        folder = _local_folder(str(source))
        if (folder / "modules.json").is_file():
            return SentenceTeacher(folder, str(source), device, precision)
        config = _read_json(folder / "config.json")
        kind = config.get("model_type")
        if kind in _PADDING:
            return ClipTeacher(folder, str(source), device, precision)
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

        if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_encoder_decoder"):
            return SentenceTeacher(folder, str(source), device, precision)
        raise InputError(
            f"{source}: cannot teach with a model of type {kind!r}; it must be clip, siglip, a text encoder "
            "such as bert, a sentence-transformers folder, or an .npz table of text embeddings"
        )

    def embed_images(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Embed pictures (N, H, W, 3) uint8 -> (N, dim)."""
        raise InputError(f"teacher {self.name} embeds text only; images need a CLIP or SigLIP teacher")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim)."""
        raise NotImplementedError


class _NetworkTeacher(Teacher):
    """What teachers with a network share: the tokenizer, the batches and the precision."""

    def __init__(self, folder: Path, name: str, device: str, precision: str) -> None:
        self.folder, self.name, self.device, self.precision = folder, name, device, precision
        self.fingerprint = folder_fingerprint(folder)
        tokenizer_file = folder / "tokenizer.json"
        self.tokenizer_file = tokenizer_file if tokenizer_file.is_file() else None

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        try:
            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, ImportError, KeyError) as error:
            if (
                self.tokenizer_file is None
            ):  # else the class wants sentencepiece, and tokenizer.json holds the same
                raise InputError(
                    f"{self.name}: its tokenizer cannot be read ({_first_line(error)})"
                ) from error
            return PreTrainedTokenizerFast.from_pretrained(self.folder, local_files_only=True)

    def _batched(self, items: Any, size: int, embed: Callable[[Any], Tensor]) -> np.ndarray:
        out_ND = np.empty((len(items), self.dim), np.float32)
        device = torch.device(self.device).type
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            for i in range(0, len(items), size):
                out_ND[i : i + size] = F.normalize(embed(items[i : i + size]).float(), dim=-1).cpu().numpy()
        return out_ND


_PADDING = {
    "clip": "longest",
    "siglip": "max_length",
}  # SigLIP pools the last position, so it was trained padded


class ClipTeacher(_NetworkTeacher):
    """A Hugging Face CLIP or SigLIP model."""

    has_images = True

    def __init__(self, folder: Path, name: str, device: str = "cpu", precision: str = "fp32") -> None:
        from transformers import CLIPModel, SiglipModel

        super().__init__(folder, name, device, precision)
        self.kind: str = _read_json(folder / "config.json")["model_type"]
        cls = {"clip": CLIPModel, "siglip": SiglipModel}[self.kind]
        self.model: Any = _load(cls, folder, name).to(device).eval()
        self.transform = Transform(folder, self.model.config.vision_config.image_size, self.kind)
        self.transform_fingerprint = f"{self.transform.fingerprint}-{precision}"
        self.logit_scale = float(self.model.logit_scale.detach().exp())
        self.logit_bias = float(self.model.logit_bias.detach()) if self.kind == "siglip" else 0.0
        self.context_length: int = self.model.config.text_config.max_position_embeddings
        tokenizer_class = _read_json(folder / "tokenizer_config.json", default={}).get("tokenizer_class")
        self._strips_punctuation = tokenizer_class == "SiglipTokenizer"
        config = self.model.config
        self.dim = config.projection_dim if self.kind == "clip" else config.vision_config.hidden_size

    def embed_images(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Embed pictures (N, H, W, 3) uint8, resized and normalised as in training -> (N, dim)."""

        def embed(batch_NHWC: np.ndarray) -> Tensor:
            x_BCHW = self.transform(batch_NHWC).to(self.device)
            return self.model.get_image_features(pixel_values=x_BCHW).pooler_output

        return self._batched(images, batch_size, embed)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts -> (N, dim); longer ones are cut to the model's context."""

        def embed(batch: Sequence[str]) -> Tensor:
            tokens = self._tokenizer(
                [self._canonical(t) for t in batch],
                padding=_PADDING[self.kind],
                truncation=True,
                max_length=self.context_length,
                return_tensors="pt",
            ).to(self.device)
            mask = {} if self.kind == "siglip" else {"attention_mask": tokens["attention_mask"]}
            return self.model.get_text_features(input_ids=tokens["input_ids"], **mask).pooler_output

        return self._batched(list(texts), _EMBED_BATCH, embed)

    def _canonical(self, text: str) -> str:
        """SigLIP read lower case only, version 1 no punctuation; not every tokenizer class does it."""
        if self.kind != "siglip":
            return text
        if self._strips_punctuation:
            text = " ".join(text.translate(str.maketrans("", "", string.punctuation)).split())
        return text.lower()


class SentenceTeacher(_NetworkTeacher):
    """A text encoder with pooling: the sentence-transformers layout, or a plain encoder with mean pooling."""

    logit_scale = 20.0  # the scale that sentence-transformers trains cosines with

    def __init__(self, folder: Path, name: str, device: str = "cpu", precision: str = "fp32") -> None:
        from transformers import AutoModel

        super().__init__(folder, name, device, precision)
        transformer, self.pooling = folder, "mean"
        self.max_length: int | None = None
        for module in _read_json(folder / "modules.json", default=[]):
            kind, path = module["type"].rsplit(".", 1)[-1], folder / module["path"]
            if kind == "Transformer":
                transformer = path
                self.max_length = _read_json(path / "sentence_bert_config.json", default={}).get(
                    "max_seq_length"
                )
            elif kind == "Pooling":
                self.pooling = _pooling(_read_json(path / "config.json"), name)
            elif kind != "Normalize":
                raise InputError(f"{name}: sentence-transformers module {kind!r} is not supported")
        self.model: Any = _load(AutoModel, transformer, name).to(device).eval()
        self.folder = transformer
        if (transformer / "tokenizer.json").is_file():
            self.tokenizer_file = transformer / "tokenizer.json"
        self.max_length = self.max_length or min(self.model.config.max_position_embeddings, 512)
        self.dim = self.model.config.hidden_size

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
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

        return self._batched(list(texts), _EMBED_BATCH, embed)


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


class TableTeacher(Teacher):
    """A table of text embeddings: `embeddings` with `texts`, or with `names` (and `raw_name`, `unique`).

    With names, the text that was embedded is "a {raw_name}"; texts are found by it, by raw_name and by name.
    Upper and lower case are one, as they are to CLIP's tokenizer.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such table of text embeddings")
        try:
            with np.load(path, allow_pickle=False) as table:
                columns = {
                    k: table[k] for k in ("embeddings", "texts", "names", "raw_name", "unique") if k in table
                }
        except Exception as error:  # a damaged archive raises whatever zipfile or NumPy's header parser met
            raise InputError(f"{path}: not a readable .npz table ({_first_line(error)})") from error
        if "embeddings" not in columns or not columns.keys() & {"texts", "names"}:
            raise InputError(
                f"{path}: expected arrays `embeddings` and `texts` (or `names`), got {sorted(columns)}"
            )
        self.name = path.name
        self.fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
        rows_ND = columns["embeddings"].astype(np.float32)
        self._rows_ND = rows_ND / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-12)
        self.dim = rows_ND.shape[1]
        names = [str(t).lower() for t in columns.get("texts", columns.get("names"))]  # type: ignore[union-attr]
        raw = [str(t).lower() for t in columns.get("raw_name", names)]
        prompts = names if "texts" in columns else [f"a {r}" for r in raw]
        if not len(names) == len(raw) == len(rows_ND):
            raise InputError(f"{path}: {len(rows_ND)} embeddings, but {len(names)} texts")
        first = np.flatnonzero(columns["unique"]) if "unique" in columns else np.arange(len(names))
        self.texts = list(dict.fromkeys(prompts[i] for i in first))
        self._row: dict[str, int] = {}
        for keys in (
            prompts,
            raw,
            names,
        ):  # an exact prompt wins over a name, a unique row over a repeated one
            for i in (*first, *range(len(names))):
                self._row.setdefault(keys[i], int(i))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Look texts up -> (N, dim). Raises `InputError` that names what the table does not hold."""
        absent = [t for t in dict.fromkeys(texts) if t.lower() not in self._row]
        if absent:
            shown = [repr(t) + _near(t, self._row) for t in absent[:5]] + ["..."] * (len(absent) > 5)
            raise InputError(
                f"{self.name} has no embedding of {len(absent)} of the texts: {', '.join(shown)}. A table "
                f"embeds only the prompts and names that it holds, such as {next(iter(self._row))!r}"
            )
        return self._rows_ND[[self._row[t.lower()] for t in texts]]


def _near(text: str, known: dict[str, int]) -> str:
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.6)
    return f" (near: {near[0]!r})" if near else ""


class Transform:
    """What `preprocessor_config.json` says is done to a picture: resize, centre crop, normalise."""

    def __init__(self, folder: Path, image_size: int, kind: str) -> None:
        """What the folder does not say is as Hugging Face's class for `kind` has it."""
        config = _read_json(folder / "preprocessor_config.json", default={})
        config = config or _read_json(folder / "processor_config.json", default={}).get("image_processor", {})
        clip = kind == "clip"
        size = config.get("size", {"shortest_edge": image_size} if clip else [image_size, image_size])
        if isinstance(size, dict):
            size = size.get("shortest_edge") or [size["height"], size["width"]]
        crop = config.get("crop_size", image_size)
        self.image_size = image_size
        self.size: int | list[int] | None = size if config.get("do_resize", True) else None
        self.crop: int | None = None
        if config.get("do_center_crop", clip):
            self.crop = crop["height"] if isinstance(crop, dict) else crop
        self.mode = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}.get(config.get("resample", 3))
        if self.mode is None:
            raise InputError(
                f"{folder}: resampling filter {config['resample']} is not supported (2 and 3 are)"
            )
        scale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
        normalise = config.get("do_normalize", True)
        mean = config.get("image_mean", _CLIP_MEAN if clip else [0.5] * 3) if normalise else [0.0] * 3
        std = config.get("image_std", _CLIP_STD if clip else [0.5] * 3) if normalise else [1.0] * 3
        self.mean_C = torch.tensor(mean) / scale
        self.std_C = torch.tensor(std) / scale
        what = (self.size, self.crop, self.mode, self.mean_C.tolist(), self.std_C.tolist())
        self.fingerprint = hashlib.sha256(repr(what).encode()).hexdigest()[:16]

    def __call__(self, images_NHWC: np.ndarray) -> Tensor:
        """Return pictures (N, H, W, 3) uint8 as pixel values (N, 3, image_size, image_size) float32."""
        x_NCHW = torch.from_numpy(np.ascontiguousarray(images_NHWC)).permute(0, 3, 1, 2)
        if self.size is not None:
            height, width = x_NCHW.shape[2:]
            short = min(height, width)
            size = self.size
            if isinstance(size, int):
                size = [int(size * height / short), int(size * width / short)]
            if tuple(size) != (height, width):  # on uint8, like Pillow, which rounds and clips
                antialias = {} if self.mode == "nearest-exact" else {"antialias": True}
                x_NCHW = F.interpolate(x_NCHW, tuple(size), mode=str(self.mode), **antialias)
        if self.crop is not None:
            top, left = ((side - self.crop) // 2 for side in x_NCHW.shape[2:])
            x_NCHW = x_NCHW[:, :, max(top, 0) :, max(left, 0) :][:, :, : self.crop, : self.crop]
        if x_NCHW.shape[2:] != (self.image_size, self.image_size):
            raise InputError(
                f"the teacher reads pictures of {self.image_size} pixels, but its preprocessing turns "
                f"{tuple(images_NHWC.shape[1:3])} into {tuple(x_NCHW.shape[2:])}; use square pictures"
            )
        return x_NCHW.float().sub_(self.mean_C[:, None, None]).div_(self.std_C[:, None, None]).contiguous()


_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def _local_folder(source: str) -> Path:
    """Return the folder itself, or the hub's snapshot of a name, downloaded when it is not in its cache."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", "modules.json")):
            raise InputError(f"{source} is not a model: expected config.json in the folder")
        return folder
    if folder.exists():
        raise InputError(f"{source} is a file; a teacher is a model folder, a hub name or an .npz table")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or source.startswith("."):
        raise InputError(f"{source}: no such folder (and not a name on the Hugging Face hub)")
    from huggingface_hub import snapshot_download

    texts = ["*.json", "*.txt", "*.model"]
    try:
        folder = Path(snapshot_download(source, allow_patterns=[*texts, "model*.safetensors"]))
        if not list(
            folder.glob("*.safetensors")
        ):  # older uploads; transformers reads it with weights_only=True
            folder = Path(snapshot_download(source, allow_patterns=[*texts, "pytorch_model*.bin"]))
    except Exception as error:  # no network, no such name, no permission: the hub has many exceptions
        raise InputError(
            f"{source}: no such folder, and the Hugging Face hub gave no model of this name "
            f"({_first_line(error)}). Check the path, or download the model and give its folder"
        ) from error
    return folder


def _load(cls: Any, folder: Path, name: str) -> Any:
    from transformers.utils import logging

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
    except (
        Exception
    ) as error:  # unknown type, no weights, damaged file: transformers has no exception of its own
        raise InputError(f"{name}: the model cannot be loaded ({_first_line(error)})") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key or "vision" in key)
    if missing:  # transformers would go on with random numbers
        raise InputError(f"{name}: the weights lack {len(missing)} tensors, such as {missing[0]}")
    return model.requires_grad_(False)


def _read_json(file: Path, default: Any = None) -> Any:
    if not file.is_file() and default is not None:
        return default
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
