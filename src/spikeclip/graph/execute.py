"""The dense executor in NumPy: slow, plain, and the specification that every other runtime is tested against."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from spikeclip.errors import InputError
from spikeclip.graph.ops import (
    Add,
    Attention,
    Conv,
    Depthwise,
    Embedding,
    Gain,
    Graph,
    Image,
    Linear,
    Mask,
    Max,
    MaxPool,
    Mean,
    Neuron,
    OnOff,
    Op,
    Readout,
    Reshape,
    Scale,
    Tokens,
)
from spikeclip.graph.shapes import paddings

BRIGHTEST = 1e9
"""Size of the largest normalised pixel, so that sums stay numbers."""


def execute(
    graph: Graph, inputs: np.ndarray, watch: Callable[[Op, np.ndarray], None] | None = None
) -> np.ndarray:
    """Run a graph on pictures (B, H, W, C) or recordings (B, H, W, T, C), normalised, or token ids (B, L).

    Returns embeddings (B, embed_dim) float32.

    watch: called with every operation and its output (T, B, ...). Raises `InputError` for an input of another shape or
    type, for none, and for pixels that are no numbers or ids outside the vocabulary.
    """
    values: dict[str, np.ndarray] = {}
    output = inputs = np.atleast_1d(inputs)
    for op in graph.ops:
        output = run_op(op, *([values[name] for name in op.inputs] or [inputs[None]]))
        values[op.name] = output
        if watch is not None:
            watch(op, output)
    return output[0]


@singledispatch
def run_op(op: Op, *inputs: np.ndarray) -> np.ndarray:
    """Run one operation on values (T, B, ...)."""
    raise InputError(f"the dense executor has no operation {type(op).__name__} ({op.name})")


@run_op.register
def _(op: Image, x_1B: np.ndarray) -> np.ndarray:
    H, W, C = op.shape
    expected = op.shape if op.constant else (H, W, op.event_frames, C)
    if x_1B.shape[2:] != expected or x_1B.dtype.kind != "f":
        raise InputError(
            f"expected pictures of shape (B, {', '.join(map(str, expected))}), got {x_1B.shape[1:]} of {x_1B.dtype}; "
            "`picture_batches` makes floats of bytes, normalised"
        )
    if not x_1B.size or not (x_1B.min() >= -BRIGHTEST and x_1B.max() <= BRIGHTEST):  # NaN is neither
        raise InputError(f"no pictures, or pixels that are NaN or beyond {BRIGHTEST:.0e}: {x_1B.shape[1:]}")
    return (x_1B if op.constant else np.moveaxis(x_1B[0], -2, 0)).astype(np.float32, copy=False)


@run_op.register
def _(op: Tokens, ids_1BL: np.ndarray) -> np.ndarray:
    return check_tokens(op, ids_1BL[0])[None]


def check_tokens(op: Tokens, ids_BL: np.ndarray) -> np.ndarray:
    """Return the token ids (B, L) as the graph reads them; raises `InputError` for what it cannot read."""
    if ids_BL.ndim != 2 or not ids_BL.size or not np.issubdtype(ids_BL.dtype, np.integer):
        raise InputError(f"expected token ids of shape (B, L), got {ids_BL.shape} {ids_BL.dtype}")
    mask_BL = end_mask(ids_BL, op.eos_id)
    if ids_BL.shape[1] > op.length and (not op.exact or mask_BL[:, op.length :].any()):
        raise InputError(f"texts of {ids_BL.shape[1]} tokens, but this model reads at most {op.length}")
    if not op.exact:
        return ids_BL
    # Tokens after the first end token must not matter: replace them by end tokens.
    ids_BL = np.where(mask_BL, ids_BL, op.eos_id)[:, : op.length]
    return np.pad(ids_BL, ((0, 0), (0, op.length - ids_BL.shape[1])), constant_values=op.eos_id)


def end_mask(ids_BL: np.ndarray, eos_id: int) -> np.ndarray:
    """Return (B, L) bool: True up to and including the first end token."""
    ends_BL = ids_BL == eos_id
    return ends_BL.cumsum(1) - ends_BL == 0


@run_op.register
def _(op: Mask, ids_1BL: np.ndarray) -> np.ndarray:
    return end_mask(ids_1BL[0], op.eos_id)[None]


@run_op.register
def _(op: Embedding, ids_1BL: np.ndarray) -> np.ndarray:
    if ids_1BL.size and not 0 <= ids_1BL.min() <= ids_1BL.max() < len(op.table_VC):
        raise InputError(
            f"token ids from {ids_1BL.min()} to {ids_1BL.max()}, but the vocabulary has {len(op.table_VC)}"
        )
    return op.table_VC[ids_1BL] + op.positions_LC[: ids_1BL.shape[2]]


@run_op.register
def _(op: Linear, x: np.ndarray) -> np.ndarray:
    return _sum_substeps(x.astype(np.float32) @ op.weight_IO, op.substeps) + op.bias_O


@run_op.register
def _(op: Conv, x_TBHWC: np.ndarray) -> np.ndarray:
    rows, columns, inputs, outputs = op.weight_RSIO.shape
    patches = np.moveaxis(_patches(op, x_TBHWC, rows, columns), 4, -1)  # (T, B, H, W, R, S, I)
    patches = patches.reshape(*patches.shape[:4], rows * columns * inputs)
    return _sum_substeps(patches @ op.weight_RSIO.reshape(-1, outputs), op.substeps) + op.bias_O


@run_op.register
def _(op: Depthwise, x_TBHWC: np.ndarray) -> np.ndarray:
    rows, columns, _ = op.weight_RSC.shape
    patches = _patches(op, x_TBHWC, rows, columns)  # (T, B, H, W, C, R, S)
    x = sum(patches[..., r, s] * op.weight_RSC[r, s] for r in range(rows) for s in range(columns))
    return _sum_substeps(np.asarray(x), op.substeps) + op.bias_C


def _patches(op: Conv | Depthwise, x_TBHWC: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return what the filter reads at every position, (T, B, H, W, C, rows, columns)."""
    x_TBHWC = np.pad(x_TBHWC.astype(np.float32), ((0, 0), (0, 0), paddings(op), paddings(op), (0, 0)))
    patches = sliding_window_view(x_TBHWC, (rows, columns), axis=(2, 3))  # type: ignore[call-overload]
    return patches[:, :, :: op.stride, :: op.stride]


def _sum_substeps(x: np.ndarray, substeps: int) -> np.ndarray:
    return x if substeps == 1 else x.reshape(-1, substeps, *x.shape[1:]).sum(1)


@run_op.register
def _(op: MaxPool, x_TBHWC: np.ndarray) -> np.ndarray:
    pad = ((0, 0), (0, 0), (op.padding, op.padding), (op.padding, op.padding), (0, 0))
    x_TBHWC = np.pad(x_TBHWC, pad, constant_values=-np.inf)
    windows = sliding_window_view(x_TBHWC, (op.size, op.size), axis=(2, 3))  # type: ignore[call-overload]
    return windows[:, :, :: op.stride, :: op.stride].max((-2, -1))


@run_op.register
def _(op: Neuron, x: np.ndarray) -> np.ndarray:
    if op.kind == "relu":
        ceiling = np.float32(np.inf if op.ceiling is None else op.ceiling)
        return np.minimum(np.maximum(x, 0), ceiling) - (
            np.minimum(np.maximum(-x, 0), ceiling) if op.signed else 0
        )
    steps = [x[min(t, len(x) - 1)] for t in range(op.T)]  # a constant current is one step
    fire = lif if op.kind == "lif" else ilif
    spikes = fire(op, steps)
    if op.signed:
        spikes = [on - off for on, off in zip(spikes, fire(op, [-x for x in steps]), strict=True)]
    if op.substeps == 1:
        return np.stack(spikes)
    return np.stack([(n > d).astype(np.float32) for n in spikes for d in range(op.substeps)])


def lif(op: Neuron, steps: list[np.ndarray]) -> list[np.ndarray]:
    """Return the spikes of LIF neurons, a list over time; the equations are `neurons.functional.lif`'s."""
    rest, rate = np.float32(op.v_reset or 0.0), np.float32(1 / op.tau)
    v, spikes = np.full_like(steps[0], rest), []
    for x in steps:
        h = v + (x - (v - rest)) * rate
        s = (h >= np.float32(op.v_threshold)).astype(np.float32)
        v = h - np.float32(op.v_threshold) * s if op.v_reset is None else h * (1 - s) + rest * s
        spikes.append(s)
    return spikes


def ilif(op: Neuron, steps: list[np.ndarray]) -> list[np.ndarray]:
    """Return the integer spikes of I-LIF neurons, a list over time; see `neurons.functional.ilif`."""
    gain, decay = np.float32(op.D / op.range), np.float32(1 - 1 / op.tau)
    left, spikes = np.zeros_like(steps[0]), []
    for x in steps:
        u = x * gain + left * decay
        n = np.round(np.clip(u, 0, op.D))
        left = u - n
        spikes.append(n)
    return spikes


@run_op.register
def _(op: Gain, x: np.ndarray) -> np.ndarray:
    return x * op.factor_C


@run_op.register
def _(op: OnOff, x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, -x], -1)


@run_op.register
def _(
    op: Attention,
    q_TBNC: np.ndarray,
    k_TBNC: np.ndarray,
    v_TBNC: np.ndarray,
    mask_1BN: np.ndarray | None = None,
) -> np.ndarray:
    q_TBHND, k_TBHND, v_TBHND = (
        _sum_substeps(x, op.substeps).reshape(-1, *x.shape[1:3], op.num_heads, x.shape[3] // op.num_heads)
        .swapaxes(2, 3)
        for x in (q_TBNC, k_TBNC, v_TBNC)
    )  # fmt: skip
    if mask_1BN is not None:
        k_TBHND = k_TBHND * mask_1BN[:, :, None, :, None]
    # Sums of products of small integers are exact in float32 up to 2^24, so the order does not matter.
    out_TBHND = q_TBHND @ (k_TBHND.swapaxes(3, 4) @ v_TBHND)
    return out_TBHND.swapaxes(2, 3).reshape(-1, *q_TBNC.shape[1:]) * np.float32(op.scale)


@run_op.register
def _(op: Add, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a + b


@run_op.register
def _(op: Scale, x: np.ndarray) -> np.ndarray:
    return _sum_substeps(x, op.substeps) * np.float32(op.factor)


@run_op.register
def _(op: Reshape, x: np.ndarray) -> np.ndarray:
    return x.reshape(*x.shape[:2], *op.shape)


@run_op.register
def _(op: Mean, x_TBNC: np.ndarray, mask_1BN: np.ndarray | None = None) -> np.ndarray:
    if mask_1BN is None:
        return x_TBNC.mean(2)
    weight_1BN1 = (mask_1BN / mask_1BN.sum(2, keepdims=True)).astype(np.float32)[..., None]
    return (x_TBNC * weight_1BN1).sum(2)


@run_op.register
def _(op: Max, x_TBNC: np.ndarray) -> np.ndarray:
    return _sum_substeps(x_TBNC, op.substeps).max(2)


@run_op.register
def _(op: Readout, x_TBC: np.ndarray) -> np.ndarray:
    return (x_TBC * op.weights_T[:, None, None]).sum(0, keepdims=True)
