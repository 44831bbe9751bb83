"""From a trained PyTorch tower to a `Graph`: the only place that walks modules, and the only one with PyTorch.

Every module of the towers has a function here that repeats its `forward` in operations. BatchNorm and the 1/D
of I-LIF activations end up in the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from spikeclip import neurons
from spikeclip.config import ImageConfig
from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.ops import Graph, Image, Op, Tokens
from spikeclip.towers.block import MLP, Attention, Block
from spikeclip.towers.image import ConvTower, ImageTower, Spikingformer
from spikeclip.towers.norm import BatchNorm, ConvBN, LinearBN
from spikeclip.towers.readout import PublishedReadout, Readout
from spikeclip.towers.separable import InvertedResidual, SeparableConv, SeparableTower, same_padding
from spikeclip.towers.stem import Stem, Whitening
from spikeclip.towers.text import TextMLP, TextTransformer


@overload
def lower(tower: ImageTower, config: ImageConfig | None = None) -> Graph[Image]: ...


@overload
def lower(tower: TextTransformer | TextMLP) -> Graph[Tokens]: ...


@overload
def lower(tower: nn.Module, config: ImageConfig | None = None) -> Graph[Image | Tokens]: ...


@torch.no_grad()
def lower(tower: nn.Module, config: ImageConfig | None = None) -> Graph[Any]:
    """Lower an image or a text tower in its evaluation form.

    config: of an image tower, for the size of its pictures and their normalisation (default: 32 pixels, none).
    Raises `InputError` that names the module for which there is no operation.
    """
    builder = _Builder(config)
    builder.add(tower, "", ())
    return Graph(_without_gains(builder.ops))


class _Builder:
    """The operations so far; `unit` is what 1 in an operation's output stands for (1/D for integer spikes)."""

    def __init__(self, config: ImageConfig | None) -> None:
        self.ops: list[Op] = []
        self.unit: dict[str, float] = {}
        self.config = config

    def add(self, module: nn.Module, path: str, inputs: tuple[str, ...], **settings: Any) -> str:
        """Append the operations of `module`; return the name of its output."""
        function = _LOWER.get(type(module))
        if function is None:
            raise InputError(f"{path or 'the tower'}: no operation stands for a {type(module).__name__}")
        return function(self, module, path, *inputs, **settings)

    def emit(self, op: Op, unit: float | None = None) -> str:
        """Append one operation; its output has the unit of its first input unless another is given."""
        self.ops.append(op)
        self.unit[op.name] = self.unit[op.inputs[0]] if unit is None and op.inputs else unit or 1.0
        return op.name


def _without_gains(ops_: list[Op]) -> list[Op]:
    """Fold every `Gain` into the convolution before it, where nothing else reads that; leave out those of 1."""
    kept: dict[str, Op] = {}
    renamed: dict[str, str] = {}
    for op in ops_:
        op = dataclasses.replace(op, inputs=tuple(renamed.get(name, name) for name in op.inputs))
        if isinstance(op, ops.Gain):
            before = kept[op.inputs[0]]
            alone = sum(before.name in other.inputs for other in ops_) == 1
            if (op.factor_C == 1).all() or (alone and isinstance(before, (ops.Conv, ops.Depthwise))):
                renamed[op.name] = before.name
                kept[before.name] = _scaled(before, op.factor_C)
                continue
        kept[op.name] = op
    return list(kept.values())


def _scaled(op: Op, factor_C: np.ndarray) -> Op:
    if isinstance(op, ops.Conv):
        return dataclasses.replace(op, weight_RSIO=op.weight_RSIO * factor_C, bias_O=op.bias_O * factor_C)
    if isinstance(op, ops.Depthwise):
        return dataclasses.replace(op, weight_RSC=op.weight_RSC * factor_C, bias_C=op.bias_C * factor_C)
    return op


def _array(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().float().cpu().numpy())


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _linear(b: _Builder, linear: nn.Linear, path: str, x: str, bn: BatchNorm | None = None) -> str:
    weight_IO = linear.weight.double().T * b.unit[x]
    bias_O = torch.zeros(linear.out_features) if linear.bias is None else linear.bias
    bias_O = bias_O.double()
    if bn is not None:
        scale, shift = bn.affine()
        weight_IO, bias_O = weight_IO * scale, bias_O * scale + shift
    return b.emit(ops.Linear(path, (x,), _array(weight_IO), _array(bias_O)), unit=1.0)


def _linear_bn(b: _Builder, module: LinearBN, path: str, x: str) -> str:
    return _linear(b, module.linear, path, x, module.bn)


def _conv_bn(b: _Builder, module: ConvBN, path: str, x: str) -> str:
    scale, shift = module.bn.affine()
    weight_RSIO = module.conv.weight.double().permute(2, 3, 1, 0) * b.unit[x] * scale
    name = path if module.pool_first is None else _join(path, "conv")
    out = b.emit(ops.Conv(name, (x,), _array(weight_RSIO), _array(shift), padding=1), unit=1.0)
    if module.pool_first is None:
        return out
    if bool((scale < 0).any()):  # the largest value before BatchNorm would be the smallest behind it
        raise InputError(f"{path}: a negative BatchNorm gain behind a max-pool cannot be folded")
    return b.emit(ops.MaxPool(path, (out,), module.pool_first, module.pool_first))


def _neuron(b: _Builder, module: neurons.Neuron, path: str, x: str, T: int) -> str:
    if module.range_C is not None:
        x = b.emit(ops.Gain(_join(path, "range"), (x,), _array(1 / module.range_C.double())))
    if isinstance(module, neurons.LIF):  # PLIF is one
        tau = float(torch.as_tensor(module.time_constant()))
        op = ops.Neuron(path, (x,), "lif", T, tau, module.v_threshold, module.v_reset, signed=module.signed)
        return b.emit(op, unit=1.0)
    if isinstance(module, neurons.ILIF):
        settings = {"D": module.D, "range": float(module.range), "signed": module.signed}
        op = ops.Neuron(path, (x,), "ilif", T, module.tau, **settings)
        return b.emit(op, unit=1 / module.D)
    assert isinstance(module, neurons.ReLU)
    return b.emit(ops.Neuron(path, (x,), "relu", signed=module.signed, ceiling=module.ceiling), unit=1.0)


def _attention(b: _Builder, module: Attention, path: str, x: str, *mask: str, T: int) -> str:
    s = b.add(module.spike, _join(path, "spike"), (x,), T=T)
    qkv = []
    for name in "qkv":
        current = b.add(getattr(module, name), _join(path, name), (s,))
        qkv.append(b.add(getattr(module, f"{name}_spike"), _join(path, f"{name}_spike"), (current,), T=T))
    scale = module.scale * b.unit[qkv[0]] ** 3
    product = b.emit(ops.Attention(_join(path, "product"), (*qkv, *mask), module.num_heads, scale), unit=1.0)
    s = b.add(module.product_spike, _join(path, "product_spike"), (product,), T=T)
    return b.add(module.proj, _join(path, "proj"), (s,))


def _mlp(b: _Builder, module: MLP, path: str, x: str, T: int) -> str:
    for i in "12":
        x = b.add(getattr(module, f"spike{i}"), _join(path, f"spike{i}"), (x,), T=T)
        x = b.add(getattr(module, f"fc{i}"), _join(path, f"fc{i}"), (x,))
    return x


def _block(b: _Builder, module: Block, path: str, x: str, *mask: str, T: int) -> str:
    attention = b.add(module.attention, _join(path, "attention"), (x, *mask), T=T)
    x = b.emit(ops.Add(_join(path, "attention.add"), (x, attention)))
    mlp = b.add(module.mlp, _join(path, "mlp"), (x,), T=T)
    return b.emit(ops.Add(_join(path, "mlp.add"), (x, mlp)))


def _readout(b: _Builder, module: Readout, path: str, x: str, T: int) -> str:
    weights_T = (module.slope.double() * torch.arange(T)).softmax(0)
    x = b.emit(ops.Readout(_join(path, "time"), (x,), _array(weights_T)))
    return _linear(b, module.linear, _join(path, "linear"), x)


def _published_readout(b: _Builder, module: PublishedReadout, path: str, x: str, T: int) -> str:
    return b.emit(ops.Readout(path, (x,), _array(module.weights_T)))


def _image(b: _Builder) -> str:
    if b.config is None:
        return b.emit(ops.Image("image"))
    size, channels, (mean, std) = b.config.image_size, b.config.shape[-1], b.config.normalization
    return b.emit(
        ops.Image("image", (), (size, size, channels), tuple(mean), tuple(std), b.config.event_frames)
    )


def _stem(b: _Builder, module: Stem, path: str, x: str) -> str:
    x = b.add(module.convs[0], _join(path, "convs.0"), (x,))
    for i, spike in enumerate(module.spikes):
        if i >= 2:
            x = b.emit(ops.MaxPool(_join(path, f"pool{i}"), (x,), size=3, stride=2, padding=1))
        x = b.add(spike, _join(path, f"spikes.{i}"), (x,), T=module.T)
        x = b.add(module.convs[i + 1], _join(path, f"convs.{i + 1}"), (x,))
    return x


def _spikingformer(b: _Builder, tower: Spikingformer, path: str) -> str:
    T = tower.stem.T
    x = b.add(tower.stem, _join(path, "stem"), (_image(b),))
    last = tower.stem.convs[-1]
    assert isinstance(last, ConvBN)
    x = b.emit(ops.Reshape("tokens", (x,), (-1, last.conv.out_channels)))
    for i, block in enumerate(tower.blocks):
        x = b.add(block, f"blocks.{i}", (x,), T=T)
    x = b.emit(ops.Mean("mean", (x,)))
    if isinstance(tower.readout, Readout):
        return b.add(tower.readout, "readout", (x,), T=T)
    time, linear = tower.readout
    assert isinstance(linear, nn.Linear)
    return _linear(b, linear, "readout.1", b.add(time, "readout.0", (x,), T=T))


def _whitening(b: _Builder, module: Whitening, path: str, x: str) -> str:
    weight_RSIO = module.filters.permute(2, 3, 1, 0)
    return b.emit(ops.Conv(path, (x,), _array(weight_RSIO), np.zeros(len(module.filters), np.float32)))


def _conv_tower(b: _Builder, tower: ConvTower, path: str) -> str:
    T = tower.T
    x = b.add(tower.whiten, "whiten", (_image(b),))
    x = b.add(tower.whiten_spike, "whiten_spike", (x,), T=T)
    for i, module in enumerate(tower.groups):
        x = b.add(module, f"groups.{i}", (x,), **({"T": T} if isinstance(module, neurons.Neuron) else {}))
    x = b.emit(ops.Reshape("tokens", (x,), (-1, tower.readout.linear.in_features)))
    if tower.blocks:  # the last neuron's spikes are the start of the stream
        x = b.emit(ops.Scale("stream", (x,), b.unit[x]), unit=1.0)
    for i, block in enumerate(tower.blocks):
        x = b.add(block, f"blocks.{i}", (x,), T=T)
    return b.add(tower.readout, "readout", (b.emit(ops.Max("max", (x,))),), T=T)


def _separable_conv(b: _Builder, module: SeparableConv, path: str, x: str, side: int) -> str:
    conv, (scale, shift) = module.conv, module.bn.affine()
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    weight_RSIO = conv.weight.double().permute(2, 3, 1, 0) * b.unit[x] * scale
    padding, end = same_padding(side, kernel, stride)
    if conv.groups == 1:
        op: Op = ops.Conv(path, (x,), _array(weight_RSIO), _array(shift), padding, 1, stride, end)
    else:
        op = ops.Depthwise(path, (x,), _array(weight_RSIO[:, :, 0]), _array(shift), padding, 1, stride, end)
    return b.emit(op, unit=1.0)


def _inverted_residual(b: _Builder, module: InvertedResidual, path: str, x: str, T: int, side: int) -> str:
    start = x
    if module.expands:
        x = b.add(module.spike, _join(path, "spike"), (x,), T=T)
        x = b.add(module.expand, _join(path, "expand"), (x,), side=side)
        x = b.add(module.expand_spike, _join(path, "expand_spike"), (x,), T=T)
    x = b.add(module.filter, _join(path, "filter"), (x,), side=side)
    x = b.add(module.filter_spike, _join(path, "filter_spike"), (x,), T=T)
    x = b.add(module.project, _join(path, "project"), (x,), side=-(-side // module.filter.conv.stride[0]))
    return b.emit(ops.Add(_join(path, "add"), (start, x))) if module.residual else x


def _separable_tower(b: _Builder, tower: SeparableTower, path: str) -> str:
    T, side = tower.T, 32 if b.config is None else b.config.image_size
    x = b.add(tower.stem, "stem", (_image(b),), side=side)
    x = b.add(tower.stem_spike, "stem_spike", (x,), T=T)
    side = -(-side // 2)
    for i, block in enumerate(tower.blocks):
        assert isinstance(block, InvertedResidual)
        x = b.add(block, f"blocks.{i}", (x,), T=T, side=side)
        side = -(-side // block.filter.conv.stride[0])
    x = b.add(tower.head, "head", (b.add(tower.spike, "spike", (x,), T=T),), side=side)
    x = b.add(tower.head_spike, "head_spike", (x,), T=T)
    x = b.emit(ops.Scale("features", (x,), b.unit[x]), unit=1.0)
    x = b.emit(ops.Reshape("tokens", (x,), (-1, tower.readout.linear.in_features)))
    return b.add(tower.readout, "readout", (b.emit(ops.Mean("mean", (x,))),), T=T)


def _embedding(b: _Builder, tower: TextTransformer | TextMLP, x: str, bn: BatchNorm | None) -> str:
    table_VC, positions_LC = tower.token.weight.double(), tower.position.weight.double()
    if bn is not None:
        scale, shift = bn.affine()
        table_VC, positions_LC = table_VC * scale, positions_LC * scale + shift
    return b.emit(ops.Embedding("embedding", (x,), _array(table_VC), _array(positions_LC)), unit=1.0)


def _text_transformer(b: _Builder, tower: TextTransformer, path: str) -> str:
    tokens = b.emit(ops.Tokens("text", (), tower.context_length, tower.eos_id))
    mask = b.emit(ops.Mask("mask", (tokens,), tower.eos_id))
    x = _embedding(b, tower, tokens, tower.bn)
    for i, block in enumerate(tower.blocks):
        x = b.add(block, f"blocks.{i}", (x, mask), T=tower.T)
    return b.add(tower.readout, "readout", (b.emit(ops.Mean("mean", (x, mask))),), T=tower.T)


def _text_mlp(b: _Builder, tower: TextMLP, path: str) -> str:
    tokens = b.emit(ops.Tokens("text", (), tower.context_length, tower.eos_id, exact=True))
    x = b.emit(ops.Reshape("flat", (_embedding(b, tower, tokens, None),), (-1,)))
    for i, (spike, fc) in enumerate(((tower.spike1, tower.fc1), (tower.spike2, tower.fc2)), 1):
        x = _linear(b, fc, f"fc{i}", b.add(spike, f"spike{i}", (x,), T=tower.T))
    return b.add(tower.readout, "readout", (x,), T=tower.T)


_LOWER: dict[type[nn.Module], Callable[..., str]] = {
    Spikingformer: _spikingformer,
    ConvTower: _conv_tower,
    SeparableTower: _separable_tower,
    SeparableConv: _separable_conv,
    InvertedResidual: _inverted_residual,
    TextTransformer: _text_transformer,
    TextMLP: _text_mlp,
    Stem: _stem,
    Whitening: _whitening,
    ConvBN: _conv_bn,
    LinearBN: _linear_bn,
    Block: _block,
    Attention: _attention,
    MLP: _mlp,
    Readout: _readout,
    PublishedReadout: _published_readout,
    neurons.LIF: _neuron,
    neurons.PLIF: _neuron,
    neurons.ILIF: _neuron,
    neurons.ReLU: _neuron,
    neurons.QuantReLU: _neuron,
}
