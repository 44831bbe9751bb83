"""The ANN twin as an ordinary network: no time axis, BatchNorm folded, nothing that a runtime must first undo.

This is the strongest form in which the twin can be given to PyTorch, ONNX Runtime and OpenVINO.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeclip.neurons import ReLU
from spikeclip.neurons.module import Neuron
from spikeclip.towers.block import Block
from spikeclip.towers.image import ConvTower, Spikingformer
from spikeclip.towers.norm import ConvBN, LinearBN


class PlainTower(nn.Module):
    """Pictures (B, 3, H, W) -> embeddings (B, embed_dim), equal to a tower of ReLU neurons in evaluation."""

    def __init__(self, tower: Spikingformer | ConvTower) -> None:
        super().__init__()
        if not all(isinstance(m, ReLU) for m in tower.modules() if isinstance(m, Neuron)):
            raise ValueError("only a tower with neuron=relu is an ordinary network")
        self.stem = _stem(tower) if isinstance(tower, Spikingformer) else _groups(tower)
        self.blocks = nn.Sequential(*(PlainBlock(block) for block in tower.blocks))  # type: ignore[arg-type]
        self.max_over_tokens = isinstance(tower, ConvTower)
        # At T=1 the weight of the only step is 1.
        self.readout: nn.Linear = tower.readout.linear  # type: ignore[assignment]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BNC = self.blocks(self.stem(x_BCHW).flatten(2).transpose(1, 2))
        return self.readout(x_BNC.amax(1) if self.max_over_tokens else x_BNC.mean(1))


class PlainBlock(nn.Module):
    """`towers.block.Block` with ReLU, without time and BatchNorm."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        attention, mlp = block.attention, block.mlp
        self.num_heads = attention.num_heads
        self.q, self.k, self.v = (_linear(m) for m in (attention.q, attention.k, attention.v))
        for parameter in self.q.parameters():  # relu(scale x) is scale relu(x), and a factor less to run
            parameter.data.mul_(attention.scale)
        self.proj, self.fc1, self.fc2 = (_linear(m) for m in (attention.proj, mlp.fc1, mlp.fc2))

    def forward(self, x_BNC: Tensor) -> Tensor:
        s_BNC = F.relu(x_BNC)
        q_BHND, k_BHND, v_BHND = (self._heads(F.relu(f(s_BNC))) for f in (self.q, self.k, self.v))
        if q_BHND.shape[2] <= q_BHND.shape[3]:
            out_BHND = (q_BHND @ k_BHND.transpose(2, 3)) @ v_BHND
        else:
            out_BHND = q_BHND @ (k_BHND.transpose(2, 3) @ v_BHND)
        out_BNC = out_BHND.transpose(1, 2).flatten(2)
        h_BNC = x_BNC + self.proj(F.relu(out_BNC))
        return h_BNC + self.fc2(F.relu(self.fc1(F.relu(h_BNC))))

    def _heads(self, x_BNC: Tensor) -> Tensor:
        return x_BNC.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def _stem(tower: Spikingformer) -> nn.Sequential:
    convs = [_conv(m) for m in tower.stem.convs]  # type: ignore[arg-type]
    pool = nn.MaxPool2d(3, 2, 1)
    return nn.Sequential(
        convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2], pool, nn.ReLU(), convs[3], pool, nn.ReLU(), convs[4]
    )  # fmt: skip


def _groups(tower: ConvTower) -> nn.Sequential:
    filters = tower.whiten.filters
    whiten = nn.Conv2d(filters.shape[1], len(filters), filters.shape[2], bias=False)
    whiten.weight.data = filters
    layers: list[nn.Module] = [whiten, nn.ReLU()]
    for module in tower.groups:
        if isinstance(module, ConvBN):
            layers.append(_conv(module))
            # BatchNorm without a gain rises with its input, so the max-pool before it may as well come after.
            layers += [nn.MaxPool2d(module.pool_first)] if module.pool_first else []
        else:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _conv(module: ConvBN) -> nn.Conv2d:
    scale, shift = (x.detach().float() for x in module.bn.affine())
    outputs, inputs = module.conv.weight.shape[:2]
    folded = nn.Conv2d(inputs, outputs, 3, padding=1)
    folded.weight.data = module.conv.weight.detach() * scale.view(-1, 1, 1, 1)
    folded.bias = nn.Parameter(shift)
    return folded


def _linear(module: LinearBN) -> nn.Linear:
    scale, shift = (x.detach().float() for x in module.bn.affine())
    linear = module.linear
    folded = nn.Linear(linear.in_features, linear.out_features)
    folded.weight.data = linear.weight.detach() * scale[:, None]
    bias = torch.zeros_like(shift) if linear.bias is None else linear.bias.detach()
    folded.bias.data = bias * scale + shift
    return folded
