"""Steps of a plan as operations of ONNX (extra `onnx`): the arithmetic of the engine's kernels, one by one.

Levels (uint8) times weights (int8) are summed in int32, by VNNI or AMX where they are; then come the float32
operations of the engine's kernels in the same order. So int8 layers fire the same spikes, bit by bit. Only float sums
(fp32 weights, the convolution of the picture, the readout) are added up in ONNX Runtime's order. Its ConvInteger is a
hundred times slower than a product of unfolded rows, and QLinearConv would round the bias.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from spikeclip.engine.neuron import LIF, parameters
from spikeclip.engine.steps import Attend, Dense, Synapses
from spikeclip.graph import ops

_NONE, _ONE = np.array(0, np.uint8), np.array(1, np.float32)
_END = np.iinfo(np.int64).max
_MICROSOFT = "com.microsoft"


class OnnxGraph:
    """An ONNX graph while it is built: a call adds an operation and returns the name of its output."""

    def __init__(self, T: int | None) -> None:
        self.T = T
        """Time steps of its values; None where they have as many as the source."""
        self.values: dict[str, str] = {}
        """ONNX names of the plan's values."""
        self.sources: dict[str, tuple[type[np.generic], int | None]] = {}
        """Type of every value read, and to how many time steps it is repeated."""
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}

    def __call__(self, kind: str, *inputs: str | np.ndarray, domain: str = "", **attributes: Any) -> str:
        return self.several(1, kind, *inputs, domain=domain, **attributes)[0]

    def several(
        self, outputs: int, kind: str, *inputs: str | np.ndarray, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add an operation of several outputs; an array among the inputs is a constant."""
        from onnx import helper

        names = []
        for x in inputs:
            if not isinstance(x, str):
                self._constants[x_name := f"constant {len(self._constants)}"] = x
                x = x_name
            names.append(x)
        results = [f"{kind} {len(self._nodes)} {i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, names, results, domain=domain, **attributes))
        return results

    def read(self, name: str, dtype: type[np.generic] = np.float32, repeated: bool = True) -> str:
        """Return a value of the plan: one computed here, or else a source."""
        if name not in self.values:
            self.values[name], self.sources[name] = name, (dtype, self.T if repeated else None)
        return self.values[name]

    def cast(self, x: str) -> str:
        return self("Cast", x, to=1)  # float32

    def session(self, results: Mapping[str, type[np.generic]], threads: int) -> Any:
        """Return an `onnxruntime.InferenceSession` from the sources to `results`."""
        # It would write to the home folder when it is imported.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime
        from onnx import helper, numpy_helper

        def described(name: str, dtype: type[np.generic]) -> Any:
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)

        inputs = [described(name, dtype) for name, (dtype, _) in self.sources.items()]
        outputs = [described(self.values[name], dtype) for name, dtype in results.items()]
        constants = [numpy_helper.from_array(x, name) for name, x in self._constants.items()]
        graph = helper.make_graph(self._nodes, "stretch", inputs, outputs, constants)
        versions = [helper.make_opsetid("", 17), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads may spin between operations, but not on the cores that the engine's kernels need next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def dense(graph: OnnxGraph, step: Dense) -> str:
    """Return the currents of real-valued input. ONNX Runtime orders the sums, of pictures once for all time steps."""
    outputs = len(step.op.bias_O)
    x = graph.read(step.source, repeated=not step.constant)
    rows = _unfold(graph, x, step, np.array(0, np.float32))
    weight_IN = np.ascontiguousarray(step.weight_IN[:, :outputs])
    x = graph("Add", graph("MatMul", rows, weight_IN), step.bias_N[:outputs])
    return graph("Concat", *[x] * graph.T, axis=0) if step.constant and graph.T else x


def synapses(graph: OnnxGraph, step: Synapses) -> str:
    """Return the currents, with the residual stream in them."""
    rows = _unfold(graph, graph.read(step.source, np.uint8), step, _NONE)
    weight_IN = np.ascontiguousarray(step.weight_IN[:, : step.outputs])
    scale_N, bias_N = step.scale_N[: step.outputs], step.bias_N[: step.outputs]
    if weight_IN.dtype == np.int8:
        inputs = (rows, weight_IN, _ONE, scale_N, "", "", bias_N)
        x = graph("MatMulIntegerToFloat", *inputs, domain=_MICROSOFT)
    else:
        x = graph("Add", graph("MatMul", graph.cast(rows), weight_IN), bias_N)
    return x if step.stream is None else graph("Add", x, graph.read(step.stream))


def _unfold(graph: OnnxGraph, x: str, step: Synapses | Dense, zero: np.ndarray) -> str:
    """Return what the filter reads at every position: (T * B, rows, columns, len(weight_IN))."""
    if step.filter_ == (1, 1, 0):
        return x
    (H, W), (R, S, padding) = step.plane, step.filter_
    outside = H * W  # a position of zeros behind the others
    places_HW = np.pad(np.arange(H * W).reshape(H, W), padding, constant_values=outside)
    read_HWRS = sliding_window_view(places_HW, (R, S))
    x = graph("Reshape", x, np.array([0, -1, len(step.weight_IN) // (R * S)]))
    x = graph("Pad", x, np.array([0, 0, 0, 0, 1, 0]), zero)
    x = graph("Gather", x, read_HWRS.reshape(-1), axis=1)
    return graph("Reshape", x, np.array([0, *read_HWRS.shape[:2], len(step.weight_IN)]))


def _pool(graph: OnnxGraph, x: str, window: tuple[int, int, int], outside: np.ndarray) -> str:
    """Return the largest of each window; `outside` is no larger than any value."""
    size, stride, padding = window
    if padding:
        x = graph("Pad", x, np.array([0, padding, padding, 0] * 2), outside)
    for axis in (2, 1):
        if (size, stride) != (1, 1):
            ends = [i - size + 1 or _END for i in range(size)]
            places = [
                graph("Slice", x, *(np.array([n]) for n in (start, end, axis, stride)))
                for start, end in enumerate(ends)
            ]
            x = graph("Max", *places)
    return x


def attention(graph: OnnxGraph, step: Attend) -> str:
    """Return scale q (k^T v) by heads; sums of products of small integers are exact in float32."""
    q, k, v = (graph.cast(graph.read(name, np.uint8)) for name in step.op.inputs[:3])
    if step.mask is not None:
        mask = graph.cast(graph.read(step.mask, np.bool_))
        k = graph("Mul", k, graph("Unsqueeze", mask, np.array([-1])))
    heads = step.op.num_heads
    shape = np.array([0, -1, heads, step.width // heads])
    q_BHND, k_BHDN, v_BHND = (
        graph("Transpose", graph("Reshape", x, shape), perm=order)
        for x, order in ((q, (0, 2, 1, 3)), (k, (0, 2, 3, 1)), (v, (0, 2, 1, 3)))
    )
    out_BHND = graph("MatMul", q_BHND, graph("MatMul", k_BHDN, v_BHND))
    out_BNHD = graph("Transpose", out_BHND, perm=(0, 2, 1, 3))
    out = graph("Reshape", out_BNHD, graph("Shape", q))
    return graph("Mul", out, np.array(step.op.scale, np.float32))


def neuron(graph: OnnxGraph, op: ops.Neuron, x: str, window: tuple[int, int, int]) -> str:
    """Return the levels that currents fire behind a max-pool; `engine.neuron.fire`, unrolled over the steps."""
    fire = _lif if parameters(op)[0] == LIF else _ilif
    if op.T == 1:  # levels rise with the current, and the largest of bytes is found faster
        return _pool(graph, fire(graph, op, [x])[0], window, _NONE)
    x = _pool(graph, x, window, np.array(-np.inf, np.float32))
    return graph("Concat", *fire(graph, op, graph.several(op.T, "Split", x, axis=0)), axis=0)


def _lif(graph: OnnxGraph, op: ops.Neuron, steps: Sequence[str]) -> list[str]:
    _, rate, _, threshold, rest, soft, _ = (np.array(x) for x in parameters(op))
    levels, h, s = [], "", ""
    for x in steps:
        if levels:
            v = graph("Where", s, graph("Sub", h, threshold) if soft else rest, h)
            h = graph("Add", v, graph("Mul", graph("Sub", x, graph("Sub", v, rest)), rate))
        else:
            h = graph("Add", graph("Mul", x, rate), rest)
        s = graph("GreaterOrEqual", h, threshold)
        levels.append(graph("Cast", s, to=2))  # uint8
    return levels


def _ilif(graph: OnnxGraph, op: ops.Neuron, steps: Sequence[str]) -> list[str]:
    _, gain, decay, *_, top = (np.array(x) for x in parameters(op))
    levels, u = [], ""
    for x in steps:
        now = graph("Mul", x, gain)
        if levels:
            left = graph("Sub", u, graph.cast(levels[-1]))
            now = graph("Add", now, graph("Mul", left, decay))
        u = now
        # To the nearest integer, ties to even, and not below 0.
        whole = graph("QuantizeLinear", u, _ONE, _NONE)
        levels.append(graph("Clip", whole, _NONE, top.astype(np.uint8)))
    return levels
