"""A whole image tower as one OpenVINO graph (extra `openvino`): what runs where so many fire that lists do not pay.

Many pictures go in groups, a thread for each, which waits for no other; few go one by one on all threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from threading import Lock, Thread
from typing import Any

import numpy as np

from spikeclip.engine.openvino import load_openvino
from spikeclip.engine.openvino_graph import OpenVinoGraph, renames
from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.check import check
from spikeclip.graph.execute import run_op
from spikeclip.graph.ops import Graph, Op

MOST, PIXELS = 16, 2**18
"""Most pictures of a group, and of their pixels: of photographs more gain 3 % at most."""
_READ = (
    ops.Conv, ops.Depthwise, ops.Gain, ops.Neuron, ops.MaxPool, ops.Attention, ops.Add, ops.Scale, ops.Reshape,
    ops.Mean, ops.Max, ops.Linear, ops.Readout,
)  # fmt: skip

_Request = tuple[Any, np.ndarray, np.ndarray]
"""OpenVINO's request, and its pictures and embeddings in memory."""


def fits(graph: Graph) -> bool:
    """Whether `Whole` can run a graph: a tower of pictures, its signed levels at one time step only."""
    picture = graph.input
    if not isinstance(picture, ops.Image) or picture.event_frames is not None:
        return False
    signed = {op.name for op in graph.ops if isinstance(op, ops.Neuron) and op.signed}
    if not all(_fits(op, signed) for op in graph.ops[1:]):
        return False
    T, *axes = check(graph)[graph.ops[-1].name]
    return T == 1 and len(axes) == 1


def _fits(op: Op, signed: set[str]) -> bool:
    if isinstance(op, ops.Neuron) and op.kind == "relu":
        return False
    if isinstance(op, ops.Neuron) and op.signed:
        return op.kind == "ilif" and op.T == 1 and 2 * op.D < 256
    if isinstance(op, ops.Conv) and signed.intersection(op.inputs):
        return op.weight_RSIO.shape[:2] == (1, 1) and op.padding == 0
    if isinstance(op, ops.Reshape):
        return renames(op)
    return isinstance(op, _READ)


class Whole:
    """A graph on OpenVINO: pictures (B, H, W, C), uint8 or normalised -> embeddings (B, D) float32.

    precision: int8 for weights of 8 bits, one scale for each output channel; the readout has float32, and the first
    convolution unless it sums pixels. Raises `InputError` without the extra `openvino`, and for pictures that the graph
    does not read.
    """

    def __init__(self, graph: Graph[ops.Image], precision: str, threads: int) -> None:
        load_openvino()  # here, where its absence is an error; the thread of `start` is too late for it
        self.graph, self.precision, self.threads = graph, precision, threads
        self.name = f"{graph.ops[0].name} ... {graph.ops[-1].name}"
        self._requests: dict[tuple[str, int, int], list[_Request]] = {}
        self._lock = Lock()

    def start(self) -> None:
        """Compile the graph of one picture while the caller reads pictures and texts: a quarter of a second."""

        def compile_one() -> None:
            with self._lock, suppress(Exception):  # a call meets the same error, and raises it
                self._compiled("uint8", 1, 1)

        Thread(target=compile_one).start()

    def __call__(self, pictures_BHWC: np.ndarray) -> np.ndarray:
        shape = self.graph.input.shape
        if pictures_BHWC.dtype != np.uint8:
            pictures_BHWC = run_op(self.graph.input, pictures_BHWC[None])[0]
        elif pictures_BHWC.shape[1:] != shape or not len(pictures_BHWC):
            raise InputError(
                f"expected pictures of shape (B, {', '.join(map(str, shape))}), at least one, "
                f"got {pictures_BHWC.shape}"
            )
        most, rows = min(MOST, max(1, PIXELS // (shape[0] * shape[1]))), []
        with self._lock:
            while left := len(pictures_BHWC):
                size, streams = 1, 1  # the last ones
                if left >= self.threads:
                    size, streams = 2 ** (min(most, left // self.threads).bit_length() - 1), self.threads
                requests = self._compiled(pictures_BHWC.dtype.name, size, streams)
                rows += _run(requests, pictures_BHWC[: size * streams])
                pictures_BHWC = pictures_BHWC[size * streams :]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _compiled(self, dtype: str, size: int, streams: int) -> list[_Request]:
        """Return what runs `size` pictures of a type, once for each stream; compiled at the first call.

        Sizes that may change would cost half a millisecond a call, and a queue a tenth.
        """
        key = dtype, size, streams
        if key not in self._requests:
            names = [op.name for op in self.graph.ops[1:]]
            built = OpenVinoGraph(self.graph, self.precision, (size,), names, names[-1:])
            built.pictures(np.dtype(dtype))
            compiled = built.compiled({"INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": streams})
            made = [compiled.create_infer_request() for _ in range(streams)]
            self._requests[key] = [
                (request, request.get_input_tensor().data, request.get_output_tensor().data)
                for request in made
            ]
        return self._requests[key]


def _run(requests: Sequence[_Request], pictures_BHWC: np.ndarray) -> list[np.ndarray]:
    """Return the rows of as many groups of pictures as there are requests."""
    if len(requests) == 1:
        ((request, given_BHWC, made_BD),) = requests
        given_BHWC[:] = pictures_BHWC
        request.infer()
        return [made_BD.copy()]
    for i, (request, given_BHWC, _) in enumerate(requests):
        size = len(given_BHWC)
        given_BHWC[:] = pictures_BHWC[i * size : (i + 1) * size]
        request.start_async()
    for request, *_ in requests:
        request.wait()
    return [made_BD.copy() for *_, made_BD in requests]
