"""Stretches of layers that fire so much that adding rows does not pay: one ONNX Runtime graph each (extra `onnx`).

Levels (uint8) times weights (int8) are summed in int32, by VNNI or AMX where they are; then come the float32
operations of the engine's kernels, one by one in the same order. So int8 layers fire the same spikes, bit by bit. Only
float sums (fp32 weights, the convolution of the picture, the readout) are added up in ONNX Runtime's order. Its
ConvInteger is a hundred times slower than a product of unfolded rows, and QLinearConv would round the bias.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from spikeclip.engine.neuron import LIF, parameters
from spikeclip.engine.plan import NO_POOL, Attend, Dense, Fire, Plain, Step, Synapses
from spikeclip.errors import missing_extra
from spikeclip.graph import ops

_NONE, _ONE = np.array(0, np.uint8), np.array(1, np.float32)
_END = np.iinfo(np.int64).max
_MICROSOFT = "com.microsoft"


def has_onnx_runtime() -> bool:
    """Whether ONNX Runtime and the package that describes a graph to it are installed."""
    return find_spec("onnx") is not None and find_spec("onnxruntime") is not None


@dataclass(eq=False)
class Stretch:
    """Consecutive steps in one ONNX graph, whose values have the shape (T * B, ...)."""

    steps: Sequence[Step]
    sources: dict[str, int | None]
    """What it reads, spikes as levels and real values, and to how many time steps that is repeated, if at all."""
    results: list[str]
    """What it computes for steps outside: real values, and levels that no list is needed of."""
    fires: list[Fire]
    """Neurons inside whose lists of spikes are read outside: the engine makes them of currents among `results`."""
    session: Any
    """The `onnxruntime.InferenceSession`: sources in, results out."""

    @property
    def name(self) -> str:
        return f"{self.steps[0].name} ... {self.steps[-1].name}"


def join(steps: Sequence[Step], dense: Collection[str], threads: int) -> list[Step | Stretch]:
    """Make stretches of the layers named in `dense` and of the neurons and attentions between them.

    Raises `InputError` without the extra `onnx`.
    """
    T = _time(steps)
    joined: list[Step | Stretch] = []
    for joins, group in groupby(steps, lambda step: isinstance(step, (Fire, Attend)) or step.name in dense):
        run = list(group)
        layers = [i for i, step in enumerate(run) if step.name in dense] if joins else []
        if not layers:
            joined += run
            continue
        first, last = layers[0], layers[-1] + 1
        if first > 0 and isinstance(run[first - 1], Fire):  # reads currents: no list to make and to unpack
            first -= 1
        inside = run[first:last]
        lists, values = set(), set()
        for step in steps:
            if step not in inside:
                lists |= _lists_read(step)
                values |= _values_read(step)
        if isinstance(steps[-1], (Dense, Synapses)):
            values.add(_current(steps[-1]))
        joined += [*run[:first], stretch(inside, T, lists, values, threads), *run[last:]]
    return joined


def _lists_read(step: Step) -> set[str]:
    if isinstance(step, Attend):
        return set(step.op.inputs[:3])
    return {step.source} if isinstance(step, Synapses) else set()


def _values_read(step: Step) -> set[str]:
    if isinstance(step, Plain):
        return set(step.sources)
    if isinstance(step, (Dense, Fire)):
        return {step.source}
    return {(step.stream if isinstance(step, Synapses) else step.mask) or ""}


def _current(step: Step) -> str:
    """Return the name of the real value that a step computes, or fires from."""
    if isinstance(step, Fire):
        return step.source
    return (step.result if isinstance(step, Synapses) else None) or step.name


def alone(step: Synapses, steps: Sequence[Step], threads: int) -> Stretch:
    """Return the stretch of one layer of `steps`, from levels to currents."""
    return stretch([step], _time(steps), (), {_current(step)}, threads)


def _time(steps: Sequence[Step]) -> int:
    return max(neuron.T for step in steps if (neuron := _neuron_of(step)) is not None)


def stretch(
    steps: Sequence[Step], T: int, lists: Collection[str], values: Collection[str], threads: int
) -> Stretch:
    """Build the ONNX graph of `steps`; others read their spikes as `lists` and real values or levels as `values`.

    Raises `InputError` without the extra `onnx`.
    """
    if not has_onnx_runtime():
        raise missing_extra("onnx and onnxruntime", "onnx")
    network = _Network(None if all(isinstance(step, Dense) for step in steps) else T)
    fires: list[Fire] = []
    results: dict[str, type[np.generic]] = {}
    for step in steps:
        current, neuron = _current(step), _neuron_of(step)
        window = step.window if isinstance(step, (Fire, Synapses)) else NO_POOL
        if isinstance(step, Dense):
            network.values[current] = _dense(network, step)
        elif isinstance(step, Synapses):
            network.values[current] = _synapses(network, step)
        elif isinstance(step, Attend):
            network.values[current] = _attention(network, step)
        x = network.read(current)
        if neuron is not None:
            network.values[neuron.name] = _neuron(network, neuron, x, window)
            if neuron.name in values:
                results[neuron.name] = np.uint8
            if neuron.name in lists:
                fires.append(Fire(neuron, current, window))
        wanted = current in values or any(fire.source == current for fire in fires)
        if wanted and current not in network.sources:
            results[current] = np.float32
    session = network.session(results, threads)
    sources = {name: T for name, (_, T) in network.sources.items()}
    return Stretch(steps, sources, list(results), fires, session)


def _neuron_of(step: Step) -> ops.Neuron | None:
    if isinstance(step, Fire):
        return step.op
    return step.neuron if isinstance(step, (Synapses, Attend)) else None


class _Network:
    """An ONNX graph in the making: a call adds an operation and returns the name of its output."""

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
        made = [f"{kind} {len(self._nodes)} {i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, names, made, domain=domain, **attributes))
        return made

    def read(self, name: str, dtype: type[np.generic] = np.float32, repeated: bool = True) -> str:
        """Return a value of the plan: one computed here, or else a source."""
        if name not in self.values:
            self.values[name], self.sources[name] = name, (dtype, self.T if repeated else None)
        return self.values[name]

    def cast(self, x: str) -> str:
        return self("Cast", x, to=1)  # float32

    def session(self, results: Mapping[str, type[np.generic]], threads: int) -> Any:
        """Return an `onnxruntime.InferenceSession` from the sources to `results`."""
        import onnxruntime
        from onnx import helper, numpy_helper

        def described(name: str, dtype: type[np.generic]) -> Any:
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)

        given = [described(name, dtype) for name, (dtype, _) in self.sources.items()]
        made = [described(self.values[name], dtype) for name, dtype in results.items()]
        constants = [numpy_helper.from_array(x, name) for name, x in self._constants.items()]
        graph = helper.make_graph(self._nodes, "stretch", given, made, constants)
        versions = [helper.make_opsetid("", 17), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads may spin between operations, but not on the cores that the engine's kernels need next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def _dense(network: _Network, step: Dense) -> str:
    """Return the currents of real-valued input. ONNX Runtime orders the sums, of pictures once for all time steps."""
    outputs = len(step.op.bias_O)
    x = network.read(step.source, repeated=not step.constant)
    rows = _unfold(network, x, step, np.array(0, np.float32))
    weight_IN = np.ascontiguousarray(step.weight_IN[:, :outputs])
    x = network("Add", network("MatMul", rows, weight_IN), step.bias_N[:outputs])
    return network("Concat", *[x] * network.T, axis=0) if step.constant and network.T else x


def _synapses(network: _Network, step: Synapses) -> str:
    """Return the currents, with the residual stream in them."""
    rows = _unfold(network, network.read(step.source, np.uint8), step, _NONE)
    weight_IN = np.ascontiguousarray(step.weight_IN[:, : step.outputs])
    scale_N, bias_N = step.scale_N[: step.outputs], step.bias_N[: step.outputs]
    if weight_IN.dtype == np.int8:
        inputs = (rows, weight_IN, _ONE, scale_N, "", "", bias_N)
        x = network("MatMulIntegerToFloat", *inputs, domain=_MICROSOFT)
    else:
        x = network("Add", network("MatMul", network.cast(rows), weight_IN), bias_N)
    return x if step.stream is None else network("Add", x, network.read(step.stream))


def _unfold(network: _Network, x: str, step: Synapses | Dense, zero: np.ndarray) -> str:
    """Return what every filter position sees: (T * B, rows, columns, len(weight_IN))."""
    if step.filter_ == (1, 1, 0):
        return x
    (H, W), (R, S, padding) = step.plane, step.filter_
    outside = H * W  # a position of zeros behind the others
    places_HW = np.pad(np.arange(H * W).reshape(H, W), padding, constant_values=outside)
    seen_HWRS = sliding_window_view(places_HW, (R, S))
    x = network("Reshape", x, np.array([0, -1, len(step.weight_IN) // (R * S)]))
    x = network("Pad", x, np.array([0, 0, 0, 0, 1, 0]), zero)
    x = network("Gather", x, seen_HWRS.reshape(-1), axis=1)
    return network("Reshape", x, np.array([0, *seen_HWRS.shape[:2], len(step.weight_IN)]))


def _pool(network: _Network, x: str, window: tuple[int, int, int], outside: np.ndarray) -> str:
    """Return the largest of each window; `outside` is no larger than any value."""
    size, stride, padding = window
    if padding:
        x = network("Pad", x, np.array([0, padding, padding, 0] * 2), outside)
    for axis in (2, 1):
        if (size, stride) != (1, 1):
            ends = [i - size + 1 or _END for i in range(size)]
            places = [
                network("Slice", x, *(np.array([n]) for n in (start, end, axis, stride)))
                for start, end in enumerate(ends)
            ]
            x = network("Max", *places)
    return x


def _attention(network: _Network, step: Attend) -> str:
    """Return scale q (k^T v) by heads; sums of products of small integers are exact in float32."""
    q, k, v = (network.cast(network.read(name, np.uint8)) for name in step.op.inputs[:3])
    if step.mask is not None:
        mask = network.cast(network.read(step.mask, np.bool_))
        k = network("Mul", k, network("Unsqueeze", mask, np.array([-1])))
    heads = step.op.num_heads
    shape = np.array([0, -1, heads, step.width // heads])
    q_BHND, k_BHDN, v_BHND = (
        network("Transpose", network("Reshape", x, shape), perm=order)
        for x, order in ((q, (0, 2, 1, 3)), (k, (0, 2, 3, 1)), (v, (0, 2, 1, 3)))
    )
    out_BHND = network("MatMul", q_BHND, network("MatMul", k_BHDN, v_BHND))
    out_BNHD = network("Transpose", out_BHND, perm=(0, 2, 1, 3))
    out = network("Reshape", out_BNHD, network("Shape", q))
    return network("Mul", out, np.array(step.op.scale, np.float32))


def _neuron(network: _Network, op: ops.Neuron, x: str, window: tuple[int, int, int]) -> str:
    """Return the levels that currents fire behind a max-pool; `engine.neuron.fire`, unrolled over the steps."""
    fire = _lif if parameters(op)[0] == LIF else _ilif
    if op.T == 1:  # levels rise with the current, and the largest of bytes is found faster
        return _pool(network, fire(network, op, [x])[0], window, _NONE)
    x = _pool(network, x, window, np.array(-np.inf, np.float32))
    return network("Concat", *fire(network, op, network.several(op.T, "Split", x, axis=0)), axis=0)


def _lif(network: _Network, op: ops.Neuron, steps: Sequence[str]) -> list[str]:
    _, rate, _, threshold, rest, soft, _ = (np.array(x) for x in parameters(op))
    levels, h, s = [], "", ""
    for x in steps:
        if levels:
            v = network("Where", s, network("Sub", h, threshold) if soft else rest, h)
            h = network("Add", v, network("Mul", network("Sub", x, network("Sub", v, rest)), rate))
        else:
            h = network("Add", network("Mul", x, rate), rest)
        s = network("GreaterOrEqual", h, threshold)
        levels.append(network("Cast", s, to=2))  # uint8
    return levels


def _ilif(network: _Network, op: ops.Neuron, steps: Sequence[str]) -> list[str]:
    _, gain, decay, *_, top = (np.array(x) for x in parameters(op))
    levels, u = [], ""
    for x in steps:
        now = network("Mul", x, gain)
        if levels:
            left = network("Sub", u, network.cast(levels[-1]))
            now = network("Add", now, network("Mul", left, decay))
        u = now
        whole = network(
            "QuantizeLinear", u, _ONE, _NONE
        )  # to the nearest integer, ties to even, and not below 0
        levels.append(network("Clip", whole, _NONE, top.astype(np.uint8)))
    return levels
