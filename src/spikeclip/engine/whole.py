"""A convolutional network of one time step, all of it as one OpenVINO graph (extra `openvino`).

Where half of the neurons fire, adding rows for every spike does not pay, and layer by layer the currents would travel
through memory. OpenVINO sums levels (uint8) times weights (int8) in int32 and fires in the same pass. Signed levels are
shifted up by D, which makes them uint8 too: pointwise convolutions read them, and their bias takes the shift back.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from spikeclip.errors import InputError, missing_extra
from spikeclip.graph import ops
from spikeclip.graph.execute import run_op
from spikeclip.graph.ops import Graph, Op
from spikeclip.graph.shapes import paddings
from spikeclip.graph.store import quantize

_READ = (ops.Image, ops.Conv, ops.Depthwise, ops.Gain, ops.Neuron, ops.Add, ops.Scale, ops.Reshape, ops.Mean)
_END = (ops.Readout, ops.Linear)


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def fits(graph: Graph) -> bool:
    """Whether `Whole` can run a graph: pictures, depthwise convolutions, integer levels at one time step."""
    if not any(isinstance(op, ops.Depthwise) for op in graph.ops):
        return False
    signed = {op.name for op in graph.ops if isinstance(op, ops.Neuron) and op.signed}
    return all(_fits(op, signed) for op in graph.ops)


def _fits(op: Op, signed: set[str]) -> bool:
    if isinstance(op, ops.Image):
        return op.event_frames is None
    if isinstance(op, ops.Neuron):
        return op.kind == "ilif" and op.T == 1 and op.substeps == 1 and op.D * (1 + op.signed) < 256
    if isinstance(op, ops.Conv) and signed.intersection(op.inputs):
        return op.weight_RSIO.shape[:2] == (1, 1) and op.padding == 0
    if isinstance(op, ops.Reshape):
        return op.shape[0] == -1 and len(op.shape) == 2
    return isinstance(op, (*_READ, *_END))


class Whole:
    """A graph on OpenVINO: pictures (B, H, W, C), uint8 or normalised -> embeddings (B, D) float32.

    precision: int8 for weights of 8 bits, one scale for each output channel, where spikes are read; stem and readout
    have float32. Raises `InputError` without the extra `openvino`, and for pictures that the graph does not read.
    """

    def __init__(self, graph: Graph[ops.Image], precision: str, threads: int) -> None:
        if not has_openvino():
            raise missing_extra("openvino", "openvino")
        self.graph, self.precision, self.threads = graph, precision, threads
        self._requests: dict[str, Any] = {}

    def __call__(self, pictures_BHWC: np.ndarray) -> np.ndarray:
        if pictures_BHWC.dtype != np.uint8:
            pictures_BHWC = run_op(self.graph.input, pictures_BHWC[None])[0]
        elif pictures_BHWC.shape[1:] != self.graph.input.shape or not len(pictures_BHWC):
            raise InputError(
                f"expected pictures of shape (B, {', '.join(map(str, self.graph.input.shape))}), at least one, "
                f"got {pictures_BHWC.shape}"
            )
        request = self._request(pictures_BHWC.dtype.name)
        request.infer([pictures_BHWC])
        return request.get_output_tensor(0).data.copy()

    def _request(self, dtype: str) -> Any:
        """Return what runs pictures of a type; compiled at the first call."""
        import openvino

        if dtype not in self._requests:
            builder = _Builder(self.precision, dtype)
            for op in self.graph.ops:
                builder.add(op)
            model: Any = openvino.Model  # its own stubs contradict each other
            model = model([builder.values[self.graph.ops[-1].name]], [builder.pictures], "spikeclip")
            # Real values must stay float32: a processor that can would take bfloat16.
            options = {
                "INFERENCE_NUM_THREADS": self.threads,
                "NUM_STREAMS": 1,
                "INFERENCE_PRECISION_HINT": "f32",
            }
            self._requests[dtype] = (
                openvino.Core().compile_model(model, "CPU", options).create_infer_request()
            )
        return self._requests[dtype]


class _Builder:
    """OpenVINO's nodes of the operations so far, (B, C, H, W)."""

    def __init__(self, precision: str, dtype: str) -> None:
        from openvino import opset13

        self.ov, self.int8, self.dtype = opset13, precision == "int8", np.dtype(dtype)
        self.values: dict[str, Any] = {}
        self.shift: dict[str, int] = {}
        """What was added to the levels of signed neurons."""
        self.levels: set[str] = set()
        self.pictures: Any = None

    def add(self, op: Op) -> None:
        """Add one operation of a graph that `fits`."""
        read = [self.values[name] for name in op.inputs]
        if isinstance(op, ops.Image):
            self.values[op.name] = self._normalized(op)
        elif isinstance(op, (ops.Conv, ops.Depthwise)):
            self.values[op.name] = self._filter(op, read[0])
        elif isinstance(op, ops.Gain):
            self.values[op.name] = self.ov.multiply(read[0], self._channels(op.factor_C))
        elif isinstance(op, ops.Neuron):
            self.values[op.name] = self._fire(op, read[0])
        elif isinstance(op, ops.Add):
            self.values[op.name] = self.ov.add(*read)
        elif isinstance(op, ops.Scale):
            self.values[op.name] = self.ov.multiply(read[0], np.float32(op.factor))
        elif isinstance(op, ops.Mean):
            self.values[op.name] = self.ov.reduce_mean(read[0], np.array([2, 3]), keep_dims=False)
        elif isinstance(op, ops.Linear):
            x = self.ov.matmul(read[0], self.ov.constant(op.weight_IO), False, False)
            self.values[op.name] = self.ov.add(x, op.bias_O)
        else:  # positions as tokens, and the only time step
            self.values[op.name] = read[0]

    def _normalized(self, op: ops.Image) -> Any:
        self.pictures = self.ov.parameter([-1, *op.shape], self.dtype, "pictures")
        x = self.ov.transpose(self.pictures, np.array([0, 3, 1, 2]))
        if self.dtype != np.uint8:
            return x
        x = self.ov.divide(self.ov.convert(x, "f32"), np.float32(255))
        return self.ov.divide(self.ov.subtract(x, self._channels(op.mean)), self._channels(op.std))

    def _channels(self, x_C: np.ndarray | Sequence[float]) -> Any:
        return self.ov.constant(np.asarray(x_C, np.float32).reshape(1, -1, 1, 1))

    def _filter(self, op: ops.Conv | ops.Depthwise, x: Any) -> Any:
        depthwise = isinstance(op, ops.Depthwise)
        weight, bias_O = (op.weight_RSC, op.bias_C) if depthwise else (op.weight_RSIO, op.bias_O)
        layout = (*weight.shape[:2], 1, -1) if depthwise else weight.shape
        weight_RSIO = weight.reshape(layout)
        shift = self.shift.get(op.inputs[0], 0)
        if self.int8 and op.inputs[0] in self.levels:
            level_NO, scale_O = quantize(weight_RSIO.reshape(-1, weight_RSIO.shape[-1]))
            bias_O = bias_O - shift * level_NO.sum(0, dtype=np.float32) * scale_O
            stored = self.ov.constant(_outputs_first(level_NO.reshape(weight_RSIO.shape), depthwise))
            scale = scale_O.reshape(-1, *[1] * (4 if depthwise else 3))
            filters = self.ov.multiply(self.ov.convert(stored, "f32"), self.ov.constant(scale))
        else:
            bias_O = bias_O - shift * weight_RSIO.sum((0, 1, 2))
            filters = self.ov.constant(_outputs_first(weight_RSIO, depthwise))
        begin, end = ([n, n] for n in paddings(op))
        convolve = self.ov.group_convolution if depthwise else self.ov.convolution
        x = convolve(x, filters, [op.stride] * 2, begin, end, [1, 1])
        return self.ov.add(x, self._channels(bias_O))

    def _fire(self, op: ops.Neuron, x: Any) -> Any:
        self.levels.add(op.name)
        x = self.ov.multiply(x, np.float32(op.D / op.range))
        if op.signed:
            self.shift[op.name] = op.D
            x = self.ov.add(x, np.float32(op.D))
        x = self.ov.clamp(x, 0.0, float(op.D * (2 if op.signed else 1)))
        ends = [self.ov.constant(np.float32(n)) for n in (0, 255, 0, 255)]
        return self.ov.fake_quantize(x, *ends, 256)


def _outputs_first(weight_RSIO: np.ndarray, depthwise: bool) -> np.ndarray:
    weight_OIRS = np.ascontiguousarray(weight_RSIO.transpose(3, 2, 0, 1))
    return weight_OIRS[:, None] if depthwise else weight_OIRS
