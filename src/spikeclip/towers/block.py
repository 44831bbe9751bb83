"""The spiking transformer block: attention and MLP on a real-valued residual stream of tokens (T, B, N, C)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikeclip.config import NeuronConfig
from spikeclip.errors import InputError
from spikeclip.neurons import make_neuron
from spikeclip.towers.norm import LinearBN
from spikeclip.towers.recompute import recomputed


class Attention(nn.Module):
    """Spiking self-attention without softmax (Spikformer, arXiv 2209.15425): (q k^T) v * scale on spikes.

    Tokens outside mask_BN have no key, so no other token sees them. The neuron after the product has half the
    threshold of the others.
    """

    def __init__(self, width: int, num_heads: int, neuron: NeuronConfig, scale: float | None = None) -> None:
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise InputError(f"width {width} is not divisible into {num_heads} heads")
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5 if scale is None else scale
        self.spike = make_neuron(neuron)
        self.q, self.q_spike = LinearBN(width, width, bias=False), make_neuron(neuron)
        self.k, self.k_spike = LinearBN(width, width, bias=False), make_neuron(neuron)
        self.v, self.v_spike = LinearBN(width, width, bias=False), make_neuron(neuron)
        self.product_spike = make_neuron(neuron, scale=0.5)
        self.proj = LinearBN(width, width, bias=True)

    def forward(self, x_TBNC: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        s_TBNC = self.spike(x_TBNC)
        q_k_v = self.q.linear(s_TBNC), self.k.linear(s_TBNC), self.v.linear(s_TBNC)
        return self.proj.normalize(recomputed(self._attend, *q_k_v, mask_BN), mask_BN)

    def _attend(self, q_TBNC: Tensor, k_TBNC: Tensor, v_TBNC: Tensor, mask_BN: Tensor | None) -> Tensor:
        q_TBHND = self._heads(self.q_spike(self.q.normalize(q_TBNC, mask_BN)))
        k_TBHND = self._heads(self.k_spike(self.k.normalize(k_TBNC, mask_BN)))
        v_TBHND = self._heads(self.v_spike(self.v.normalize(v_TBNC, mask_BN)))
        if mask_BN is not None:
            k_TBHND = k_TBHND * mask_BN[:, None, :, None].to(k_TBHND.dtype)
        # The product is associative: take the cheaper order (N x N or head x head).
        if q_TBHND.shape[-2] <= q_TBHND.shape[-1]:
            out_TBHND = (q_TBHND @ k_TBHND.mT) @ v_TBHND
        else:
            out_TBHND = q_TBHND @ (k_TBHND.mT @ v_TBHND)
        out_TBNC = (out_TBHND * self.scale).transpose(2, 3).flatten(3)
        return self.proj.linear(self.product_spike(out_TBNC))

    def _heads(self, x_TBNC: Tensor) -> Tensor:
        return x_TBNC.unflatten(3, (self.num_heads, -1)).transpose(2, 3)


class MLP(nn.Module):
    """Two linear maps, each behind a neuron."""

    def __init__(self, width: int, hidden: int, neuron: NeuronConfig) -> None:
        super().__init__()
        self.spike1, self.fc1 = make_neuron(neuron), LinearBN(width, hidden, bias=True)
        self.spike2, self.fc2 = make_neuron(neuron), LinearBN(hidden, width, bias=True)

    def forward(self, x_TBNC: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        h_TBNC = self.fc1.linear(self.spike1(x_TBNC))
        return self.fc2.normalize(recomputed(self._contract, h_TBNC, mask_BN), mask_BN)

    def _contract(self, h_TBNC: Tensor, mask_BN: Tensor | None) -> Tensor:
        return self.fc2.linear(self.spike2(self.fc1.normalize(h_TBNC, mask_BN)))


class Block(nn.Module):
    """x + attention(x), then + mlp(.), on a real-valued stream; every synaptic input is a spike.

    `zero_init` starts the block as the identity, so that appending it to a trained tower loses nothing.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_ratio: int,
        neuron: NeuronConfig,
        scale: float | None = None,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.attention = Attention(width, num_heads, neuron, scale)
        self.mlp = MLP(width, mlp_ratio * width, neuron)
        if zero_init:
            torch.nn.init.zeros_(self.attention.proj.bn.weight)
            torch.nn.init.zeros_(self.mlp.fc2.bn.weight)

    def forward(self, x_TBNC: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        h_TBNC = x_TBNC + self.attention(x_TBNC, mask_BN)
        return h_TBNC + self.mlp(h_TBNC, mask_BN)
