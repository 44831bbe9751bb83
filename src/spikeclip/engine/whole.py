"""A convolutional network of one time step, all of it as one OpenVINO graph (extra `openvino`).

Where half of the neurons fire, adding rows for every spike does not pay, and layer by layer the currents would travel
through memory. OpenVINO sums levels (uint8) times weights (int8) in int32 and fires in the same pass. Signed levels are
shifted up by D, which makes them uint8 too: pointwise convolutions read them, and their bias takes the shift back.
Pixels are uint8 already, and where one of them stands for zero, the first convolution sums them as they are.

Many pictures go in groups, a thread for each, which waits for no other; few go one by one on all threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from threading import Lock, Thread
from typing import Any

import llvmlite.binding
import numpy as np

from spikeclip.engine.openvino import load_openvino
from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.execute import run_op
from spikeclip.graph.ops import Graph, Op
from spikeclip.graph.shapes import paddings
from spikeclip.graph.store import quantize

GROUP = 4
"""Pictures of a group: fewer take longer each, as weights are read more often, and more gain 3 % at most."""
_READ = (ops.Image, ops.Conv, ops.Depthwise, ops.Gain, ops.Neuron, ops.Add, ops.Scale, ops.Reshape, ops.Mean)
_END = (ops.Readout, ops.Linear)


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

    precision: int8 for weights of 8 bits, one scale for each output channel; the readout has float32. Raises
    `InputError` without the extra `openvino`, and for pictures that the graph does not read.
    """

    def __init__(self, graph: Graph[ops.Image], precision: str, threads: int) -> None:
        self.openvino = load_openvino()
        self.graph, self.precision, self.threads = graph, precision, threads
        self._requests: dict[tuple[str, int], Any] = {}
        self._lock = Lock()
        Thread(target=self._start).start()

    def _start(self) -> None:
        """Compile the graph of one picture while the caller reads pictures and texts: a quarter of a second."""
        with self._lock, suppress(Exception):  # a call meets the same error, and raises it
            self._compiled("uint8", 1)

    def __call__(self, pictures_BHWC: np.ndarray) -> np.ndarray:
        if pictures_BHWC.dtype != np.uint8:
            pictures_BHWC = run_op(self.graph.input, pictures_BHWC[None])[0]
        elif pictures_BHWC.shape[1:] != self.graph.input.shape or not len(pictures_BHWC):
            raise InputError(
                f"expected pictures of shape (B, {', '.join(map(str, self.graph.input.shape))}), at least one, "
                f"got {pictures_BHWC.shape}"
            )
        pictures_BHWC, rows = np.ascontiguousarray(pictures_BHWC), {}
        round = GROUP * self.threads
        grouped = len(pictures_BHWC) // round * round
        with self._lock:
            if grouped:
                queue = self._compiled(pictures_BHWC.dtype.name, GROUP)
                for i in range(0, grouped, GROUP):
                    queue.start_async([pictures_BHWC[i : i + GROUP]], (rows, i), share_inputs=True)
                queue.wait_all()
            for i in range(grouped, len(pictures_BHWC)):
                one = self._compiled(pictures_BHWC.dtype.name, 1)
                one.infer([pictures_BHWC[i : i + 1]], share_inputs=True)
                _keep(one, (rows, i))
        return np.concatenate([rows[i] for i in sorted(rows)])

    def _compiled(self, dtype: str, size: int) -> Any:
        """Return what runs `size` pictures of a type, a queue for groups; compiled at the first call.

        Sizes that may change would cost half a millisecond a call, and a queue of one picture a tenth.
        """
        if (dtype, size) not in self._requests:
            builder = _Builder(self.openvino.opset13, self.graph, self.precision, dtype, size)
            for op in self.graph.ops:
                builder.add(op)
            model = self.openvino.Model(
                [builder.values[self.graph.ops[-1].name]], [builder.pictures], "spikeclip"
            )
            # Real values must stay float32: a processor that can would take bfloat16.
            options = {
                "INFERENCE_NUM_THREADS": self.threads,
                "NUM_STREAMS": self.threads if size > 1 else 1,
                "INFERENCE_PRECISION_HINT": "f32",
            }
            compiled = self.openvino.Core().compile_model(model, "CPU", options)
            if size == 1:
                self._requests[dtype, size] = compiled.create_infer_request()
            else:
                self._requests[dtype, size] = queue = self.openvino.AsyncInferQueue(compiled, self.threads)
                queue.set_callback(_keep)
        return self._requests[dtype, size]


def _keep(request: Any, place: tuple[dict[int, np.ndarray], int]) -> None:
    rows, first = place
    rows[first] = request.get_output_tensor(0).data.copy()


class _Builder:
    """OpenVINO's nodes of the operations so far, (B, C, H, W)."""

    def __init__(self, opset: Any, graph: Graph, precision: str, dtype: str, size: int) -> None:
        self.graph, self.ov, self.int8 = graph, opset, precision == "int8"
        self.dtype, self.size = np.dtype(dtype), size
        self.values: dict[str, Any] = {}
        self.shift: dict[str, int] = {}
        """What was added to the levels of signed neurons."""
        self.bytes: set[str] = set()
        """Values of uint8: levels, and a picture whose pixels are in one unit."""
        self.ready: set[str] = set()
        """Currents in the unit of the levels that they become."""
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
        self.pictures = self.ov.parameter([self.size, *op.shape], self.dtype, "pictures")
        x = self.ov.transpose(self.pictures, np.array([0, 3, 1, 2]))
        if self.dtype != np.uint8:
            return x
        x = self.ov.convert(x, "f32")
        if self.int8 and _is_shift(op) and _sums_bytes():
            self.bytes.add(op.name)
            return self._uint8(x, *((n - op.mean[0]) / op.std[0] for n in (0, 1)))
        x = self.ov.divide(x, np.float32(255))
        return self.ov.divide(self.ov.subtract(x, self._channels(op.mean)), self._channels(op.std))

    def _channels(self, x_C: np.ndarray | Sequence[float]) -> Any:
        return self.ov.constant(np.asarray(x_C, np.float32).reshape(1, -1, 1, 1))

    def _filter(self, op: ops.Conv | ops.Depthwise, x: Any) -> Any:
        depthwise = isinstance(op, ops.Depthwise)
        weight, bias_O = (op.weight_RSC, op.bias_C) if depthwise else (op.weight_RSIO, op.bias_O)
        layout = (*weight.shape[:2], 1, -1) if depthwise else weight.shape
        level_NO, scale_O = weight.reshape(-1, len(bias_O)), np.ones(1, np.float32)
        summed = self.int8 and op.inputs[0] in self.bytes
        if summed or (self.int8 and op.inputs[0] == self.graph.input.name):
            level_NO, scale_O = quantize(level_NO)
        bias_O = bias_O - self.shift.get(op.inputs[0], 0) * level_NO.sum(0, dtype=np.float32) * scale_O
        gain, rise = self._firing(op)
        level = _outputs_first(level_NO.reshape(layout), depthwise)
        scale = gain * scale_O.reshape(-1, *[1] * (level.ndim - 1))
        if summed:
            filters = self.ov.multiply(
                self.ov.convert(self.ov.constant(level), "f32"), self.ov.constant(scale)
            )
        else:
            filters = self.ov.constant(level * scale)
        begin, end = ([n, n] for n in paddings(op))
        convolve = self.ov.group_convolution if depthwise else self.ov.convolution
        x = convolve(x, filters, [op.stride] * 2, begin, end, [1, 1])
        return self.ov.add(x, self._channels(gain * bias_O + rise))

    def _firing(self, op: ops.Conv | ops.Depthwise) -> tuple[np.float32, int]:
        """Return what the neuron behind multiplies by and adds: weights and bias take it where nothing else reads."""
        readers = self.graph.readers(op.name)
        if len(readers) != 1 or not isinstance(readers[0], ops.Neuron):
            return np.float32(1), 0
        self.ready.add(op.name)
        return _unit(readers[0])

    def _fire(self, op: ops.Neuron, x: Any) -> Any:
        self.bytes.add(op.name)
        gain, self.shift[op.name] = _unit(op)
        if op.inputs[0] not in self.ready:
            x = self.ov.add(self.ov.multiply(x, gain), np.float32(self.shift[op.name]))
        x = self.ov.clamp(x, 0.0, float(op.D * (2 if op.signed else 1)))
        if self.int8:
            return self._uint8(x, 0, 255)
        return self.ov.round(
            x, "half_to_even"
        )  # OpenVINO 2026.4 leaves floats of a single place unrounded above

    def _uint8(self, x: Any, low: float, high: float) -> Any:
        """Store 0 ... 255 as bytes that stand for `low` ... `high`."""
        return self.ov.fake_quantize(x, *(np.float32(n) for n in (0, 255, low, high)), 256)


def _unit(op: ops.Neuron) -> tuple[np.float32, int]:
    """Return the levels of a current of 1, and what is added to levels that may be negative."""
    return np.float32(op.D / op.range), op.D if op.signed else 0


@cache
def _sums_bytes() -> bool:
    """Whether the processor adds products of bytes in 32 bits: others do so in 16, where those of pixels overflow."""
    features = llvmlite.binding.get_host_cpu_features()
    return any(features.get(name) for name in ("avx512vnni", "avxvnni"))


def _is_shift(op: ops.Image) -> bool:
    """Whether normalised pixels are whole numbers in one unit, such that a pixel of uint8 stands for zero."""
    return len({*op.mean}) == len({*op.std}) == 1 and abs(255 * op.mean[0] - round(255 * op.mean[0])) < 1e-6


def _outputs_first(weight_RSIO: np.ndarray, depthwise: bool) -> np.ndarray:
    weight_OIRS = np.ascontiguousarray(weight_RSIO.transpose(3, 2, 0, 1))
    return weight_OIRS[:, None] if depthwise else weight_OIRS
