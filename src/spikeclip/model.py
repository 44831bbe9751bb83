"""SpikeCLIP: an image tower and a text tower that share one embedding space, and a temperature."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import ModelHubMixin
from safetensors.torch import save
from torch import Tensor, nn

from spikeclip.config import (
    PRESETS,
    ImageConfig,
    ModelConfig,
    NeuronConfig,
    Taught,
    TextConfig,
    check,
    from_dict,
    model_config,
    read_saved,
    saved_values,
    to_dict,
)
from spikeclip.data.tokenizer import Tokenizer, check_tokenizer, no_tokenizer
from spikeclip.errors import InputError
from spikeclip.files import replacing
from spikeclip.pretrained.card import CARD, is_ours, model_card
from spikeclip.pretrained.resolve import resolve
from spikeclip.towers import image_tower, text_tower
from spikeclip.towers.weights import load_file, weights_hash

MAX_LOG_SCALE = math.log(100)


class SpikeCLIP(nn.Module, ModelHubMixin, library_name="spikeclip"):
    """Two towers and a learnable temperature.

    Build one with `create_model` or `SpikeCLIP.from_pretrained`. `tokenizer` is the tokenizer of the text tower,
    None until one is set; `taught` is what the model was taught with. Both are saved and loaded with the model.
    """

    def __init__(
        self, config: ModelConfig, tokenizer: Tokenizer | None = None, taught: Taught | None = None
    ) -> None:
        super().__init__()
        check(config)
        self.config = config
        self.tokenizer = tokenizer
        self.taught = taught or Taught()
        self.image = image_tower(config.image, config.neuron, config.embed_dim)
        self.text = text_tower(config.text, config.neuron, config.embed_dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))
        """Added to the logits of the sigmoid loss only (SigLIP, arXiv 2303.15343)."""

    @property
    def logit_scale(self) -> Tensor:
        """The factor on cosine similarities, exp of a learned number, at most 100."""
        return self.log_scale.clamp(max=MAX_LOG_SCALE).exp()

    @property
    def fingerprint(self) -> str:
        """Hash of weights, towers, neurons and tokenizer: models that differ in it have different embeddings."""
        parts = [_unusual(part) for part in (self.config.image, self.config.text, self.config.neuron)]
        about = [weights_hash(self), *parts, self.tokenizer.fingerprint if self.tokenizer else None]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Embed pictures (B, 3, H, W), normalised as in `config.image`; returns (B, embed_dim) fp32.

        A model with `event_frames` embeds recordings (B, event_frames, 2, H, W), or (B, 2, H, W) where they are one
        frame. Raises `InputError` for another shape.
        """
        H, W, *frames, C = self.config.image.shape
        expected = (*frames, C, H, W)
        if images.shape[1:] != expected:
            raise InputError(
                f"expected images of shape (B, {', '.join(map(str, expected))}), got {tuple(images.shape)}"
            )
        embeddings = self.image(images.transpose(0, 1) if frames else images).float()
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Embed token ids (B, L), L up to the context length; returns (B, embed_dim) fp32.

        Raises `InputError` for another shape or for ids outside the vocabulary.
        """
        if tokens.ndim != 2 or tokens.shape[1] == 0 or tokens.is_floating_point():
            raise InputError(f"expected token ids of shape (B, L), got {tuple(tokens.shape)} {tokens.dtype}")
        # A compiled graph cannot branch on values, and a GPU would be waited for: its own check says less.
        if len(tokens) and not tokens.is_cuda and not torch.compiler.is_compiling():
            least, most = (int(token) for token in tokens.aminmax())
            if least < 0 or most >= self.config.text.vocab_size:
                raise InputError(
                    f"token ids from {least} to {most}, but this model's vocabulary has "
                    f"{self.config.text.vocab_size}: were the texts tokenized by another model's tokenizer?"
                )
        embeddings = self.text(tokens).float()
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def tokenize(self, texts: str | list[str]) -> Tensor:
        """Return the token ids (N, L) of texts; raises `InputError` where the model has no tokenizer."""
        if self.tokenizer is None:
            raise no_tokenizer(f"this model ({self.config.name})")
        return self.tokenizer(texts, self.config.text.context_length)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Return the scaled cosine similarities (B_images, B_texts)."""
        return self.logit_scale * self.encode_image(images, True) @ self.encode_text(tokens, True).T

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **options: Any,
    ) -> str | None:
        """Save config.json, model.safetensors, tokenizer.json and a model card.

        The files take their places when all are written, so that a failure leaves the model that was there; a card
        that someone else wrote stays. `push_to_hub` uploads them too; `repo_id` defaults to the folder's name and
        `options` are those of `push_to_hub`. Returns the URL of the upload, if any.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.contiguous() for k, v in self.state_dict().items()}
        files = {"model.safetensors": save(state, {"format": "pt"}), **self._described(folder)}
        if self.tokenizer is not None:
            files["tokenizer.json"] = self.tokenizer.to_json().encode()
        _write(folder, files)
        if self.tokenizer is None:
            (folder / "tokenizer.json").unlink(missing_ok=True)
        return self.push_to_hub(repo_id or folder.name, **options) if push_to_hub else None

    def save_taught(self, folder: Path) -> None:
        """Write `taught` anew to config.json and the card of this model, which is saved in `folder`."""
        _write(folder, self._described(folder))

    def _described(self, folder: Path) -> dict[str, bytes]:
        """Return config.json and, where there is none of someone else's, the card, by their names."""
        config = json.dumps(saved_values(self.config, self.taught), indent=2) + "\n"
        files = {"config.json": config.encode()}
        if is_ours(folder):
            parameters = {
                part: sum(p.numel() for p in getattr(self, part).parameters()) for part in ("image", "text")
            }
            size = sum(value.nbytes for value in self.state_dict().values())
            files[CARD] = model_card(self.config, self.taught, parameters, size / 1e6).encode()
        return files

    @classmethod
    def from_pretrained(cls, path: str | Path, **options: Any) -> SpikeCLIP:  # type: ignore[override]
        """Load a model in eval mode: from a folder, the folder of a run, or the Hugging Face hub by name.

        options: those of `huggingface_hub.snapshot_download`, such as `revision` and `local_files_only`. Raises
        `InputError` where there is no model, or one that cannot be read.
        """
        folder = resolve(path, **options).folder
        saved, tokenizer_file = read_saved(folder), folder / "tokenizer.json"
        tokenizer = Tokenizer.load(tokenizer_file) if tokenizer_file.is_file() else None
        check_tokenizer(tokenizer, saved.config.text.eos_id, str(folder))
        make = partial(cls, saved.config, tokenizer, saved.taught)
        return load_file(make, folder / "model.safetensors").eval()


def create_model(name: str, **overrides: Any) -> SpikeCLIP:
    """Build a preset with random weights, e.g. `create_model("spikeclip-base", neuron="lif", T=4)`.

    See `list_models` for the names and `config.model_config` for the overrides. Raises `InputError`.
    """
    return SpikeCLIP(model_config(name, **overrides))


def list_models() -> list[str]:
    """Return the names of the presets."""
    return list(PRESETS)


def from_pretrained(path: str | Path, **options: Any) -> SpikeCLIP:
    """Load a model from a folder or the Hugging Face hub; see `SpikeCLIP.from_pretrained`."""
    return SpikeCLIP.from_pretrained(path, **options)


def interpolate(before: SpikeCLIP, after: SpikeCLIP, share: float) -> SpikeCLIP:
    """Return a model with weights (1 - share) x before + share x after, statistics of BatchNorm among them.

    Between the weights before fine-tuning and after it there are networks that keep more of what the first could do
    than they lose of what the second learned (WiSE-FT, arXiv 2109.01903, section 3). Raises `InputError` for models of
    different configurations or tokenizers, and for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"the share of the second model is from 0 to 1, got {share}")
    if before.config != after.config:
        ours, theirs = (to_dict(model.config) for model in (before, after))
        differ = [key for key, value in ours.items() if theirs[key] != value]
        raise InputError(
            f"weights lie between models of one configuration; these differ in {', '.join(differ)}"
        )
    tokenizers = [model.tokenizer.fingerprint if model.tokenizer else None for model in (before, after)]
    if tokenizers[0] != tokenizers[1]:
        raise InputError("weights lie between models of one tokenizer; these read texts by different ones")
    stages = [*after.taught.stages, f"weights between before the last training and after it, share {share:g}"]
    model = SpikeCLIP(
        after.config, after.tokenizer, replace(after.taught, stages=stages, scores={}, costs={})
    )
    start, end = before.state_dict(), after.state_dict()
    model.load_state_dict(
        {
            name: torch.lerp(start[name], value, share) if value.is_floating_point() else value
            for name, value in end.items()
        }
    )
    return model.eval()


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files that take their places in a folder when all of them are written."""
    with ExitStack() as stack:
        for name, content in files.items():
            file = stack.enter_context(replacing(folder / name))
            file.write(content)
            file.flush()


def _unusual(part: ImageConfig | TextConfig | NeuronConfig) -> dict[str, Any]:
    """Return the settings of a configuration that differ from their defaults, but for those of training alone.

    A setting that a later version adds then leaves the fingerprint of older models as it is.
    """
    given, usual = to_dict(from_dict(type(part), to_dict(part))), to_dict(type(part)())
    training = ("surrogate", "alpha", "detach_reset")
    return {name: value for name, value in given.items() if value != usual[name] and name not in training}
