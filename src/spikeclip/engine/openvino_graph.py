"""Operations of a `Graph` as nodes of OpenVINO (extra `openvino`): sums of all weights, whoever fires.

OpenVINO sums levels (uint8) times weights (int8) in int32 and fires in the same pass, so that currents do not travel
through memory. It makes bytes only of a FakeQuantize of exactly 256 levels, so levels are clamped first. Signed levels
are shifted up by D, which makes them uint8 too: pointwise convolutions read them, and their bias takes the shift back.
Pixels are uint8 already, and where one of them stands for zero, the first convolution sums them as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import llvmlite.binding
import numpy as np

from spikeclip.engine.openvino import load_openvino
from spikeclip.engine.unrolled import unrolled
from spikeclip.graph import ops
from spikeclip.graph.check import check
from spikeclip.graph.ops import Graph, Op
from spikeclip.graph.shapes import paddings
from spikeclip.graph.store import quantize

SAME_PLACES = (ops.Linear, ops.Neuron, ops.Add, ops.Attention, ops.Gain, ops.Scale)
"""Operations whose output has the positions of their first input."""


class OpenVinoGraph:
    """Nodes of the operations `inside`: (T * B, channels, rows, columns), or (T * B, channels) without places.

    Tokens keep the rows and columns they came from; those of a text are rows of one column. results: values that are
    read outside. given: shape of what the graph reads; texts may be shorter than the longest.
    """

    def __init__(
        self,
        graph: Graph,
        precision: str,
        given: tuple[int, ...],
        inside: Collection[str],
        results: Sequence[str],
    ) -> None:
        self.openvino = load_openvino()
        self.graph, self.ov, self.batch = graph, self.openvino.opset13, given[0]
        self.int8 = precision == "int8"
        self.inside, self.results = inside, results
        self.shapes = check(graph)
        self.places: dict[str, tuple[int, ...]] = {}
        """Rows and columns of each value."""
        text = graph.input
        self.tokens = text.length if isinstance(text, ops.Tokens) and text.exact else given[-1]
        for op in graph.ops:
            before = isinstance(op, SAME_PLACES) or renames(op)
            inner = (self.tokens,) if isinstance(op, ops.Embedding) else self.shapes[op.name][1:-1]
            self.places[op.name] = self.places[op.inputs[0]] if before else (*inner, 1)[: 2 * bool(inner)]
        self.sources: dict[str, Any] = {}
        """Parameters, channels last, by the names of the values."""
        self.values: dict[str, Any] = {}
        self.shift: dict[str, int] = {}
        """What was added to the levels of signed neurons."""
        self.bytes: set[str] = set()
        """Values of uint8: levels, and a picture whose pixels are in one unit."""
        self.ready: set[str] = set()
        """Currents in the unit of the levels that they become."""

    def compiled(self, options: dict[str, Any]) -> Any:
        """Return OpenVINO's compiled model, from the sources to the results, channels last."""
        for op in self.graph.ops:
            if op.name in self.inside and not _is_passed(op):
                self.values[op.name] = self._node(op)
        outputs = [self._result(name) for name in self.results]
        model = self.openvino.Model(outputs, list(self.sources.values()), "spikeclip")
        # Real values must stay float32: a processor that can would take bfloat16.
        options = {"INFERENCE_PRECISION_HINT": "f32", **options}
        return self.openvino.Core().compile_model(model, "CPU", options)

    def pictures(self, dtype: np.dtype) -> None:
        """Let the input be pictures (B, H, W, C), uint8 or normalised."""
        op = self.graph.input
        assert isinstance(op, ops.Image)
        pictures = self.ov.parameter([self.batch, *op.shape], dtype, op.name)
        self.sources[op.name], x = pictures, self.ov.transpose(pictures, np.array([0, 3, 1, 2]))
        if dtype == np.uint8:
            x = self.ov.convert(x, "f32")
            if self.int8 and sums_pixels(op):
                self.bytes.add(op.name)
                x = self._uint8(x, *((n - op.mean[0]) / op.std[0] for n in (0, 1)))
            else:
                x = self.ov.divide(x, np.float32(255))
                x = self.ov.divide(self.ov.subtract(x, _channels(op.mean, 4)), _channels(op.std, 4))
        self.values[op.name] = x

    def _read(self, name: str) -> Any:
        """Return a value: one that is there, or a parameter."""
        if name not in self.values:
            op = self.graph[name]
            self.values[name] = self._read(op.inputs[0]) if _is_passed(op) else self._source(op)
            if op.inputs and op.inputs[0] in self.ready:
                self.ready.add(name)
        return self.values[name]

    def _source(self, op: Op) -> Any:
        T, *_, C = self.shapes[op.name]
        if isinstance(op, ops.Mask):
            self.sources[op.name] = self.ov.parameter([self.batch, self.tokens], np.uint8, op.name)
            return self.ov.convert(self.sources[op.name], "f32")
        spikes, places = isinstance(op, ops.Neuron), self.places[op.name]
        x = self.ov.parameter([T * self.batch, *places, C], np.uint8 if spikes else np.float32, op.name)
        self.sources[op.name] = x
        if places:
            x = self.ov.transpose(x, np.array([0, 3, 1, 2]))
        return self._levels(op.name, self.ov.convert(x, "f32")) if spikes else x

    def _result(self, name: str) -> Any:
        x, last = self.values[name], self.places[name]
        x = self.ov.transpose(x, np.array([0, 2, 3, 1])) if last else x
        return self.ov.convert(x, "u8") if isinstance(self.graph[name], ops.Neuron) else x

    def _node(self, op: Op) -> Any:
        read = [self._read(name) for name in op.inputs]
        if isinstance(op, (ops.Conv, ops.Depthwise, ops.Linear)):
            return self._filter(op, read[0])
        if isinstance(op, ops.Gain):
            return self.ov.multiply(read[0], _channels(op.factor_C, len(read[0].shape)))
        if isinstance(op, ops.Neuron):
            return self._fire(op, read[0])
        if isinstance(op, ops.Attention):
            return self._attend(op, read)
        if isinstance(op, ops.Add):
            return self.ov.add(*(self._repeated(op, name) for name in op.inputs))
        if isinstance(op, ops.Scale):
            return self.ov.multiply(read[0], np.float32(op.factor))
        if isinstance(op, ops.Mean):
            return self.ov.reduce_mean(read[0], np.array([2, 3]), keep_dims=False)
        if isinstance(op, ops.Max):
            return self.ov.reduce_max(read[0], np.array([2, 3]), keep_dims=False)
        assert isinstance(op, ops.Readout)
        if len(op.weights_T) == 1:
            return self.ov.multiply(read[0], op.weights_T)
        x, *more = (
            self.ov.multiply(x, w)
            for x, w in zip(self._steps(op, len(op.weights_T)), op.weights_T, strict=True)
        )
        for other in more:
            x = self.ov.add(x, other)
        return x

    def _repeated(self, op: Op, name: str) -> Any:
        """Return an input of `op`, one that is constant over time as often as `op` has steps."""
        x, T = self._read(name), self.shapes[op.name][0]
        return self.ov.concat([x] * T, 0) if self.shapes[name][0] < T else x

    def _steps(self, op: Op, T: int) -> list[Any]:
        """Return the T time steps of what `op` reads."""
        x = self._read(op.inputs[0])
        return [x] * T if self.shapes[op.inputs[0]][0] == 1 else self.ov.split(x, np.array(0), T).outputs()

    def _filter(self, op: ops.Conv | ops.Depthwise | ops.Linear, x: Any) -> Any:
        source, rank = op.inputs[0], len(x.shape)
        weight, bias_O = _weights(op)
        level_NO, scale_O = weight.reshape(-1, len(bias_O)), np.ones(1, np.float32)
        summed = self.int8 and self._is_bytes(source)
        if summed or (self.int8 and source == self.graph.input.name and sums_pixels(self.graph.input)):
            level_NO, scale_O = quantize(level_NO)
        bias_O = bias_O - self.shift.get(source, 0) * level_NO.sum(0, dtype=np.float32) * scale_O
        gain, rise = self._firing(op)
        level = _outputs_first(level_NO.reshape(weight.shape), rank)
        scale = (gain * scale_O).astype(np.float32).reshape(-1, *[1] * (level.ndim - 1))
        if summed:
            filters = self.ov.multiply(
                self.ov.convert(self.ov.constant(level), "f32"), self.ov.constant(scale)
            )
        else:
            filters = self.ov.constant((level * scale).astype(np.float32))
        if rank == 2:
            x = self.ov.matmul(x, filters, False, True)
        elif isinstance(op, ops.Linear):
            x = self.ov.convolution(x, filters, [1, 1], [0, 0], [0, 0], [1, 1])
        else:
            begin, end = ([n, n] for n in paddings(op))
            convolve = self.ov.group_convolution if isinstance(op, ops.Depthwise) else self.ov.convolution
            x = convolve(x, filters, [op.stride] * 2, begin, end, [1, 1])
        x.set_friendly_name(op.name)
        return self.ov.add(x, _channels(gain * bias_O + rise, rank))

    def _is_bytes(self, name: str) -> bool:
        return name in self.bytes or (
            renames(self.graph[name]) and self._is_bytes(self.graph[name].inputs[0])
        )

    def _firing(self, op: Op) -> tuple[np.float32, int]:
        """Return what the neuron behind multiplies by and adds: weights and bias take it where nothing else reads."""
        readers, seen = self.graph.readers(op.name), {op.name}
        while len(readers) == 1 and _is_passed(readers[0]):
            seen.add(readers[0].name)
            readers = self.graph.readers(readers[0].name)
        if len(readers) != 1 or seen.intersection(self.results) or readers[0].name not in self.inside:
            return np.float32(1), 0
        if not isinstance(readers[0], ops.Neuron) or not _is_one_step(readers[0]):
            return np.float32(1), 0
        self.ready.add(op.name)
        return _unit(readers[0])

    def _fire(self, op: ops.Neuron, x: Any) -> Any:
        """Fire, before the max-pool where that may be: the largest of bytes is found faster."""
        before = self.graph[op.inputs[0]]
        pool = before if isinstance(before, ops.MaxPool) else None
        if _is_one_step(op):
            gain, self.shift[op.name] = _unit(op)
            if op.inputs[0] not in self.ready:
                x = self.ov.add(self.ov.multiply(x, gain), np.float32(self.shift[op.name]))
            x = self.ov.clamp(x, 0.0, float(op.D * (2 if op.signed else 1)))
            if not self.int8:  # OpenVINO 2026.4 leaves floats of a single place unrounded above
                x = self.ov.round(x, "half_to_even")
            x = self._levels(op.name, x)
            return x if pool is None else self._pooled(pool, x)
        if pool is not None:
            x = self._pooled(pool, x)
        T = self.shapes[op.inputs[0]][0]
        currents = [x] * op.T if T == 1 else self.ov.split(x, np.array(0), op.T).outputs()
        levels = unrolled(self.ov, op, currents)
        return self._levels(op.name, self.ov.concat(levels, 0) if op.T > 1 else levels[0])

    def _pooled(self, op: ops.MaxPool, x: Any) -> Any:
        around = [op.padding] * 2
        return self.ov.max_pool(x, [op.stride] * 2, [1, 1], around, around, [op.size] * 2).output(0)

    def _attend(self, op: ops.Attention, read: Sequence[Any]) -> Any:
        """Sum q (k^T v) by heads; sums of products of small integers are exact in float32."""
        steps, _, H, W = read[0].shape
        channels = self.shapes[op.name][-1]
        by_head = np.array([steps, op.num_heads, channels // op.num_heads, H * W])
        q, k, v = (self.ov.reshape(x, by_head, False) for x in read[:3])
        if len(read) > 3:
            mask = self._repeated(op, op.inputs[3])
            k = self.ov.multiply(k, self.ov.unsqueeze(mask, np.array([1, 2])))
        x = self.ov.matmul(self.ov.matmul(k, v, False, True), q, True, False)
        x = self.ov.reshape(x, np.array([steps, channels, H, W]), False)
        gain, rise = self._firing(op)
        x = self.ov.multiply(x, np.float32(op.scale * gain))
        return self.ov.add(x, np.float32(rise)) if rise else x

    def _levels(self, name: str, x: Any) -> Any:
        """Store levels as bytes."""
        if not self.int8:
            return x
        self.bytes.add(name)
        return self._uint8(x, 0, 255)

    def _uint8(self, x: Any, low: float, high: float) -> Any:
        """Store 0 ... 255 as bytes that stand for `low` ... `high`."""
        return self.ov.fake_quantize(x, *(np.float32(n) for n in (0, 255, low, high)), 256)


def renames(op: Op) -> bool:
    """Whether an operation only takes positions for tokens."""
    return isinstance(op, ops.Reshape) and len(op.shape) == 2 and op.shape[0] == -1


def _is_passed(op: Op) -> bool:
    """Whether an operation has no node: a renaming, and a max-pool, which the neuron behind it does."""
    return isinstance(op, ops.MaxPool) or renames(op)


def _is_one_step(op: ops.Neuron) -> bool:
    """Whether a neuron only rounds its current."""
    return op.kind == "ilif" and op.T == 1


def _unit(op: ops.Neuron) -> tuple[np.float32, int]:
    """Return the levels of a current of 1, and what is added to levels that may be negative."""
    return np.float32(op.D / op.range), op.D if op.signed else 0


@cache
def _sums_bytes() -> bool:
    """Whether the processor adds products of bytes in 32 bits: others do so in 16, where those of pixels overflow."""
    features = llvmlite.binding.get_host_cpu_features()
    return any(features.get(name) for name in ("avx512vnni", "avxvnni"))


def sums_pixels(op: Op) -> bool:
    """Whether pixels stay bytes: normalised they are whole numbers in one unit, and one of them stands for zero."""
    if not isinstance(op, ops.Image) or not _sums_bytes():
        return False
    return len({*op.mean}) == len({*op.std}) == 1 and abs(255 * op.mean[0] - round(255 * op.mean[0])) < 1e-6


def _channels(x_C: np.ndarray | Sequence[float], rank: int) -> Any:
    return np.asarray(x_C, np.float32).reshape(1, -1, *[1] * (rank - 2))


def _weights(op: ops.Conv | ops.Depthwise | ops.Linear) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (..., outputs) and bias."""
    if isinstance(op, ops.Linear):
        return op.weight_IO, op.bias_O
    return (op.weight_RSC, op.bias_C) if isinstance(op, ops.Depthwise) else (op.weight_RSIO, op.bias_O)


def _outputs_first(weight: np.ndarray, rank: int) -> np.ndarray:
    """Return weights (..., outputs) as OpenVINO has them for values of a rank: 3 axes are those of single channels."""
    if rank == 2:
        return np.ascontiguousarray(weight.T)
    if weight.ndim == 2:
        weight = weight[None, None]
    if weight.ndim == 3:
        return np.ascontiguousarray(weight.transpose(2, 0, 1)[:, None, None])
    return np.ascontiguousarray(weight.transpose(3, 2, 0, 1))
