"""Byte-level BPE with CLIP's special tokens, trained on texts or read from a tokenizer.json."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from spikeclip.data.readers.listing import plain_text
from spikeclip.errors import InputError
from spikeclip.files import replacing

if TYPE_CHECKING:
    import torch

START, END, PAD = "<|startoftext|>", "<|endoftext|>", "<|pad|>"
_STARTS = (START, "<s>", "[CLS]", "<bos>")
_ENDS = (END, "</s>", "[SEP]", "<eos>")
_PADS = (PAD, "<pad>", "[PAD]")


class Tokenizer:
    """Texts to token ids: start, tokens, end. It has no state that encoding changes."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = True  # "<|endoftext|>" written in a caption is text, not an end
        self._inner = inner
        self.start_id = self._find(_STARTS)
        """Id of the token before every text, or None for a tokenizer without one."""
        end = self._find(_ENDS)
        if end is None:
            raise InputError(f"the tokenizer has no token that ends a text (one of {', '.join(_ENDS)})")
        self.eos_id: int = end
        """Id of the token after every text; what follows the first one is padding."""
        pad = self._find(_PADS)
        self.pad_id: int = end if pad is None else pad
        """Id that fills shorter texts of a batch; `eos_id` where the tokenizer has no padding token (CLIP)."""

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 2048) -> Tokenizer:
        """Learn at most `vocab_size` tokens from texts; any text can be encoded, as bytes if need be.

        The same texts give the same tokenizer. Raises `InputError` below 259 tokens (bytes and specials).
        """
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        special = [START, END, PAD]
        if vocab_size < len(alphabet) + len(special):
            raise InputError(f"vocab_size must be at least {len(alphabet) + len(special)}, got {vocab_size}")
        inner = tokenizers.Tokenizer(models.BPE())
        spaces = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
        steps = [normalizers.NFC(), spaces, normalizers.Strip(), normalizers.Lowercase()]
        inner.normalizer = normalizers.Sequence(steps)  # type: ignore[assignment]
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # type: ignore[assignment]
        inner.decoder = decoders.ByteLevel()  # type: ignore[assignment]
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        inner.train_from_iterator((plain_text(text) for text in texts), trainer)
        return cls(inner)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a tokenizer.json, or the one in a folder (ours, or a Hugging Face model's)."""
        file = _file(path)
        if not file.is_file():
            raise InputError(f"no tokenizer at {file}; expected a tokenizer.json or a folder that holds one")
        try:
            return cls(tokenizers.Tokenizer.from_file(str(file)))
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
        except Exception as error:  # the Rust reader raises bare Exception
            raise InputError(f"{file} is not a tokenizer.json: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write tokenizer.json to a file ending in .json or into a folder, all of it or nothing."""
        file = _file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as written:
            written.write(self.to_json().encode())

    def to_json(self) -> str:
        """Return the content of tokenizer.json."""
        return self._inner.to_str(pretty=True)

    @property
    def vocab_size(self) -> int:
        """Number of token ids, special tokens included."""
        return self._inner.get_vocab_size(with_added_tokens=True)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides how a text is encoded."""
        return hashlib.sha256(self._inner.to_str().encode()).hexdigest()

    def encode(self, texts: str | list[str], context_length: int = 77) -> np.ndarray:
        """Return token ids (N, L) int64: start, tokens, end, filled with `pad_id` to the longest text.

        A text that is longer than `context_length` is cut and still ends in `eos_id`. Needs no PyTorch.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"expected texts, got {type(text).__name__} ({text!r})")
        start = [] if self.start_id is None else [self.start_id]
        room = context_length - len(start) - 1
        if room < 0:
            raise InputError(f"context_length must be at least {len(start) + 1}, got {context_length}")
        # The template of the tokenizer would add its special tokens a second time.
        encoded = self._inner.encode_batch_fast(
            [plain_text(text) for text in texts], add_special_tokens=False
        )
        rows = [[*start, *item.ids[:room], self.eos_id] for item in encoded]
        ids = np.full((len(rows), max(map(len, rows), default=0)), self.pad_id, np.int64)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = values
        return ids

    def __call__(self, texts: str | list[str], context_length: int = 77) -> torch.Tensor:
        """Return `encode` as a LongTensor (N, L)."""
        import torch

        return torch.from_numpy(self.encode(texts, context_length))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids up to the first end, without special tokens."""
        kept: list[int] = []
        for token in ids:
            if token == self.eos_id:
                break
            kept.append(int(token))
        return self._inner.decode(kept, skip_special_tokens=True).strip()

    def _find(self, names: tuple[str, ...]) -> int | None:
        ids = (self._inner.token_to_id(name) for name in names)
        return next((token for token in ids if token is not None), None)


def check_tokenizer(tokenizer: Tokenizer | None, eos_id: int, model: str) -> None:
    """Raise `InputError` for a tokenizer that does not end texts with the token up to which a model reads them."""
    if tokenizer is not None and tokenizer.eos_id != eos_id:
        raise InputError(
            f"the tokenizer of {model} ends a text with token {tokenizer.eos_id}, and the model reads it up to token "
            f"{eos_id}: it is the tokenizer of another model"
        )


def no_tokenizer(model: str) -> InputError:
    """Return an `InputError` for texts that a model cannot read."""
    return InputError(
        f"{model} has no tokenizer, so it reads no texts or class names: put the tokenizer.json that it was trained "
        "with beside its config.json, or set model.tokenizer = Tokenizer.load(...) and save it again"
    )


def _file(path: str | Path) -> Path:
    path = Path(path).expanduser()
    return path if path.suffix == ".json" else path / "tokenizer.json"
