"""Networks that photographs are raced against, as ONNX files of a fixed batch: an ordinary twin, and a ViT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.ops import Graph
from spikeclip.graph.shapes import paddings


def export_graph(graph: Graph[ops.Image], batch: int, file: Path) -> None:
    """Write the graph of a convolutional network with ReLU neurons: images (B, 3, H, W) -> embeddings (B, D).

    What does nothing in such a network leaves no node. Raises `InputError` for other operations.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    arrays: list[Any] = []
    names = {graph.input.name: "images"}

    def node(kind: str, op: ops.Op, *constants: np.ndarray, read: str | None = None, **settings: Any) -> str:
        given = [names[name] for name in op.inputs] if read is None else [read]
        for i, array in enumerate(constants):
            arrays.append(numpy_helper.from_array(np.asarray(array, order="C"), f"{op.name}.{i}"))
            given.append(arrays[-1].name)
        name = f"{op.name} {kind}"
        nodes.append(helper.make_node(kind, given, [name], name, **settings))
        return name

    for op in graph.ops[1:]:
        if isinstance(op, (ops.Conv, ops.Depthwise)):
            names[op.name] = _convolution(node, op)
        elif isinstance(op, ops.Neuron) and op.kind == "relu" and op.signed and op.ceiling is None:
            names[op.name] = names[op.inputs[0]]
        elif isinstance(op, ops.Neuron) and op.kind == "relu" and not op.signed and op.ceiling is not None:
            names[op.name] = node("Clip", op, np.zeros((), np.float32), np.array(op.ceiling, np.float32))
        elif isinstance(op, ops.Gain):
            names[op.name] = node("Mul", op, op.factor_C[:, None, None])
        elif isinstance(op, ops.Add):
            names[op.name] = node("Add", op)
        elif isinstance(op, ops.Mean):  # of an image, which the reshaping before made tokens of
            names[op.name] = node("Flatten", op, read=node("GlobalAveragePool", op))
        elif isinstance(op, ops.Linear):
            names[op.name] = node("Gemm", op, op.weight_IO, op.bias_O)
        elif isinstance(op, (ops.Reshape, ops.Readout)) or (isinstance(op, ops.Scale) and op.factor == 1):
            names[op.name] = names[op.inputs[0]]
        else:
            raise InputError(f"{op.name}: an ordinary network has no such {type(op).__name__}")
    H, W, C = graph.input.shape
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, C, H, W])
    result = helper.make_tensor_value_info(names[graph.ops[-1].name], TensorProto.FLOAT, None)
    model = helper.make_graph(nodes, "twin", [images], [result], arrays)
    # Versions that every ONNX Runtime of the extra reads.
    onnx.save(helper.make_model(model, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)


def _convolution(node: Any, op: ops.Conv | ops.Depthwise) -> str:
    depthwise = isinstance(op, ops.Depthwise)
    weight, bias = (op.weight_RSC[:, :, None], op.bias_C) if depthwise else (op.weight_RSIO, op.bias_O)
    begin, end = paddings(op)
    settings = {"pads": [begin, begin, end, end], "strides": [op.stride] * 2}
    groups = len(bias) if depthwise else 1
    return node("Conv", op, weight.transpose(3, 2, 0, 1), bias, group=groups, **settings)


def export_vit(image_size: int, batch: int, file: Path) -> None:
    """Write a network like CLIP's ViT-B/32, random weights, fp32: images (B, 3, H, W) -> embeddings (B, 512)."""
    torch.manual_seed(0)
    network = VisionTransformer(image_size, patch=32, width=768, depth=12, heads=12, dim=512).eval()
    images = torch.zeros(batch, 3, image_size, image_size)
    torch.onnx.export(network, (images,), str(file), input_names=["images"], dynamo=False)


class VisionTransformer(nn.Module):
    """A ViT as CLIP has it: layer norm before attention and MLP, and the class token as the picture."""

    def __init__(self, image_size: int, patch: int, width: int, depth: int, heads: int, dim: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch, bias=False)
        self.first = nn.Parameter(torch.randn(1, 1, width) / width**0.5)
        self.positions = nn.Parameter(torch.randn((image_size // patch) ** 2 + 1, width) / width**0.5)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.projection = nn.Linear(width, dim, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        x_BNC = self.patches(images).flatten(2).transpose(1, 2)
        x_BNC = torch.cat([self.first.expand(images.shape[0], -1, -1), x_BNC], 1) + self.positions
        x_BNC = self.before(x_BNC)
        for block in self.blocks:
            x_BNC = block(x_BNC)
        return self.projection(self.after(x_BNC[:, 0]))


class TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x_BNC)).chunk(3, -1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in qkv)
        weights = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)
        x_BNC = x_BNC + self.out((weights @ v).transpose(1, 2).flatten(2))
        h = self.up(self.mlp_norm(x_BNC))
        return x_BNC + self.down(h * torch.sigmoid(1.702 * h))
