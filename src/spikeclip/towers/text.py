"""The text towers: token ids (B, L) -> embeddings (B, embed_dim). Padding does not change an embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeclip.config import NeuronConfig, TextConfig
from spikeclip.errors import InputError
from spikeclip.neurons import make_neuron
from spikeclip.towers.block import Block
from spikeclip.towers.norm import BatchNorm
from spikeclip.towers.readout import PublishedReadout, Readout
from spikeclip.towers.synapses import Linear


def text_mask(tokens_BL: Tensor, eos_id: int) -> Tensor:
    """Return (B, L) bool: True up to and including the first end token; all True in a text without one."""
    ends_BL = tokens_BL == eos_id
    return (ends_BL.cumsum(1) - ends_BL.long()) == 0


class TextTransformer(nn.Module):
    """Token and position embedding, BatchNorm, spiking transformer blocks, mean over the text's tokens, readout."""

    def __init__(self, config: TextConfig, neuron: NeuronConfig, embed_dim: int) -> None:
        super().__init__()
        self.T, self.eos_id, self.context_length = neuron.T, config.eos_id, config.context_length
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.position = nn.Embedding(config.context_length, config.width)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.01)
        self.bn = BatchNorm(config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.num_heads, config.mlp_ratio, neuron) for _ in range(config.depth)
        )
        self.readout = Readout(config.width, embed_dim)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        if tokens_BL.shape[1] > self.context_length:
            raise InputError(
                f"texts of {tokens_BL.shape[1]} tokens, but this model reads at most {self.context_length}; "
                "tokenize with context_length set"
            )
        mask_BL = text_mask(tokens_BL, self.eos_id)
        x_BLC = self.token(tokens_BL) + self.position.weight[: tokens_BL.shape[1]]
        x_BLC = self.bn(x_BLC.flatten(0, 1), mask_BL.flatten()).view(x_BLC.shape)
        x_TBLC = x_BLC.expand(self.T, -1, -1, -1)
        for block in self.blocks:
            x_TBLC = block(x_TBLC, mask_BL)
        weight_BL1 = (mask_BL / mask_BL.sum(1, keepdim=True))[..., None]
        return self.readout((x_TBLC * weight_BL1).sum(2))


class TextMLP(nn.Module):
    """The published text tower: exactly `context_length` tokens, embedded, flattened, LIF - Linear - LIF - Linear."""

    def __init__(self, config: TextConfig, neuron: NeuronConfig, embed_dim: int) -> None:
        super().__init__()
        self.T, self.eos_id, self.context_length = neuron.T, config.eos_id, config.context_length
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.position = nn.Embedding(max(77, config.context_length), config.width)
        hidden = config.mlp_ratio * embed_dim
        self.spike1, self.fc1 = make_neuron(neuron), Linear(config.context_length * config.width, hidden)
        self.spike2, self.fc2 = make_neuron(neuron), Linear(hidden, embed_dim)
        self.readout = PublishedReadout(neuron.T)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        tokens_BL = self._fit(tokens_BL)
        x_BLC = self.token(tokens_BL) + self.position.weight[: self.context_length]
        x_TBK = x_BLC.flatten(1).expand(self.T, -1, -1)
        return self.readout(self.fc2(self.spike2(self.fc1(self.spike1(x_TBK)))))

    def _fit(self, tokens_BL: Tensor) -> Tensor:
        """Pad with the end token, as CLIP's tokenizer does, or drop padding, to exactly `context_length` tokens."""
        missing = self.context_length - tokens_BL.shape[1]
        if missing < 0 and bool(text_mask(tokens_BL, self.eos_id)[:, self.context_length :].any()):
            raise InputError(
                f"texts of up to {tokens_BL.shape[1]} tokens, but the published text tower reads exactly "
                f"{self.context_length}; tokenize with context_length={self.context_length}"
            )
        tokens_BL = F.pad(tokens_BL, (0, max(missing, 0)), value=self.eos_id)[:, : self.context_length]
        # Tokens after the first end token must not matter: replace them by end tokens.
        return torch.where(text_mask(tokens_BL, self.eos_id), tokens_BL, self.eos_id)


def text_tower(config: TextConfig, neuron: NeuronConfig, embed_dim: int) -> TextTransformer | TextMLP:
    """Build the text tower of `config`."""
    return (TextMLP if config.architecture == "mlp" else TextTransformer)(config, neuron, embed_dim)
