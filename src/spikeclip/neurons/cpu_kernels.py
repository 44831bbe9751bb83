"""The neurons' loops over time as numba kernels; `cpu` runs them in threads.

A block of neurons goes through all time steps while it lies in the first-level cache, so the current is read once
and the spikes are written once, whatever T; the membranes of a block are all that backward recomputes.

A time step is N elements in memory order; step t of the current lies `x_stride` elements behind step t - 1.
bfloat16 travels as uint16. Arrays of no elements stand for what is absent. Numbers are fp32; v_reset=None is NaN.
"""

# numba's types are not Python's: its intrinsics take no typing context, and fp32 is a float.
# pyright: reportCallIssue=false, reportArgumentType=false, reportReturnType=false

from __future__ import annotations

import math
from functools import partial

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from spikeclip.compiled import compiled

BLOCK = 1024
"""Neurons that go through all time steps together."""

_compiled = partial(compiled, nogil=True, error_model="numpy")  # checks of divisors would keep loops scalar
_ONE, _HALF_PI = np.float32(1), np.float32(np.pi / 2)
_C2, _C3, _C4, _C5, _C6 = (np.float32(1 / math.factorial(n)) for n in range(2, 7))


@intrinsic
def _from_bf16(typing_context, x):  # noqa: ANN001
    def generate(context, builder, signature, args):  # noqa: ANN001
        bits = builder.shl(builder.zext(args[0], ir.IntType(32)), ir.IntType(32)(16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def _to_bf16(typing_context, x):  # noqa: ANN001
    """Round to nearest, ties to even; NaN stays NaN."""

    def generate(context, builder, signature, args):  # noqa: ANN001
        word, half = ir.IntType(32), ir.IntType(16)
        bits = builder.bitcast(args[0], word)
        odd = builder.and_(builder.lshr(bits, word(16)), word(1))
        rounded = builder.lshr(builder.add(bits, builder.add(odd, word(0x7FFF))), word(16))
        not_a_number = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.select(not_a_number, half(0x7FC0), builder.trunc(rounded, half))

    return types.uint16(types.float32), generate


@intrinsic
def _fma(typing_context, a, b, c):  # noqa: ANN001
    """a b + c, rounded once."""

    def generate(context, builder, signature, args):  # noqa: ANN001
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def _times_power_of_2(typing_context, x, exponent):  # noqa: ANN001
    """x 2^k, for an exponent k + 1.5 * 2^23: that float's lowest bits are those of the integer k."""

    def generate(context, builder, signature, args):  # noqa: ANN001
        word = ir.IntType(32)
        x, exponent = (builder.bitcast(arg, word) for arg in args)
        return builder.bitcast(builder.add(x, builder.shl(exponent, word(23))), ir.FloatType())

    return types.float32(types.float32, types.float32), generate


def _real(x):  # noqa: ANN001
    raise NotImplementedError("only inside compiled code")


@overload(_real, inline="always")
def _real_of(x):  # noqa: ANN001
    return (lambda x: _from_bf16(x)) if x == types.uint16 else (lambda x: x)


def _put(array, i, x):  # noqa: ANN001
    raise NotImplementedError("only inside compiled code")


@overload(_put, inline="always")
def _put_into(array, i, x):  # noqa: ANN001
    def bf16(array, i, x):  # noqa: ANN001
        array[i] = _to_bf16(x)

    def fp32(array, i, x):  # noqa: ANN001
        array[i] = x

    return bf16 if array.dtype == types.uint16 else fp32


@_compiled
def _exp(x: float) -> float:
    """e^x in fp32 for -87 < x <= 0, to about 1e-7: 2^k times a polynomial, which loops can take in vectors."""
    magic = np.float32(12582912)  # 1.5 * 2^23: adding it rounds to an integer
    shifted = x * np.float32(1.44269504) + magic
    k = shifted - magic
    r = x - k * np.float32(0.693359375) + k * np.float32(2.12194440e-4)
    y = (_C6 * r + _C5) * r + _C4
    y = ((y * r + _C3) * r + _C2) * r + _ONE
    return _times_power_of_2(y * r + _ONE, shifted)


@_compiled
def _surrogate(
    h_B: np.ndarray, threshold: float, place: float, alpha: float, derivative_B: np.ndarray
) -> None:
    """Write the derivative at `place` of SURROGATES, at h - threshold."""
    if place == 0:  # sigmoid: s (1 - s) is even and e^-|x| / (1 + e^-|x|)^2
        for i in range(h_B.size):
            e = _exp(-min(abs(alpha * (h_B[i] - threshold)), np.float32(80)))
            derivative_B[i] = e / ((_ONE + e) * (_ONE + e)) * alpha
    elif place == 1:  # atan
        for i in range(h_B.size):
            z = _HALF_PI * alpha * (h_B[i] - threshold)
            derivative_B[i] = np.float32(0.5) * alpha / (_ONE + z * z)
    else:  # rectangular
        for i in range(h_B.size):
            inside = abs(h_B[i] - threshold) < np.float32(0.5) / alpha
            derivative_B[i] = alpha if inside else np.float32(0)


@_compiled
def _start(v_B: np.ndarray, v_N: np.ndarray, start: int, otherwise: float) -> None:
    """Fill a block from element `start` of `v_N`, where there is one."""
    if v_N.size:
        v_B[:] = v_N[start : start + v_B.size]
    else:
        v_B[:] = otherwise


@_compiled
def lif_forward(
    x: np.ndarray,
    x_stride: int,
    v_start: np.ndarray,
    rate: float,
    s: np.ndarray,
    v_end: np.ndarray,
    threshold: float,
    v_reset: float,
    T: int,
    N: int,
    begin: int,
    end: int,
) -> int:
    """Fire neurons `begin` to `end` through all steps; see `functional.lif`."""
    soft, low = np.isnan(v_reset), np.float32(0) if np.isnan(v_reset) else v_reset
    room_B = np.empty(BLOCK, np.float32)
    for b in range(begin, end, BLOCK):
        v_B = room_B[: min(BLOCK, end - b)]
        n = v_B.size
        _start(v_B, v_start, b, low)
        for t in range(T):
            x_B, s_B = x[t * x_stride + b : t * x_stride + b + n], s[t * N + b : t * N + b + n]
            for i in range(n):
                h = v_B[i] + (_real(x_B[i]) - (v_B[i] - low)) * rate
                fired = h >= threshold
                v_B[i] = (h - threshold if soft else low) if fired else h
                _put(s_B, i, _ONE if fired else np.float32(0))
        if v_end.size:
            v_end[b : b + n] = v_B
    return 0


@_compiled
def lif_backward(
    x: np.ndarray,
    x_stride: int,
    v_start: np.ndarray,
    rate: float,
    grad_s: np.ndarray,
    grad_s_stride: int,
    grad_end: np.ndarray,
    grad_x: np.ndarray,
    grad_start: np.ndarray,
    needs_rate: bool,
    threshold: float,
    v_reset: float,
    detach_reset: bool,
    surrogate: float,
    alpha: float,
    T: int,
    N: int,
    begin: int,
    end: int,
) -> float:
    """Write the gradients of neurons `begin` to `end`; return that of the rate, 0 if it is not needed."""
    soft, low = np.isnan(v_reset), np.float32(0) if np.isnan(v_reset) else v_reset
    reset_gradient = np.float32(not detach_reset)
    rooms, grad_rate = np.empty((T + 3, BLOCK), np.float32), 0.0
    for b in range(begin, end, BLOCK):
        n = min(BLOCK, end - b)
        v_B, grad_v_B, derivative_B, h_TB = rooms[0][:n], rooms[1][:n], rooms[2][:n], rooms[3:]
        _start(v_B, v_start, b, low)
        for t in range(T):
            x_B, h_B = x[t * x_stride + b : t * x_stride + b + n], h_TB[t][:n]
            for i in range(n):
                h = v_B[i] + (_real(x_B[i]) - (v_B[i] - low)) * rate
                h_B[i] = h
                v_B[i] = (h - threshold if soft else low) if h >= threshold else h
        _start(grad_v_B, grad_end, b, np.float32(0))
        for t in range(T - 1, -1, -1):
            h_B, grad_x_B = h_TB[t][:n], grad_x[t * N + b : t * N + b + n]
            grad_s_B = grad_s[t * grad_s_stride + b : t * grad_s_stride + b + n]
            _surrogate(h_B, threshold, surrogate, alpha, derivative_B)
            for i in range(n):
                h, derivative = h_B[i], derivative_B[i]
                kept = np.float32(0) if (h >= threshold) & (not soft) else _ONE
                kept += reset_gradient * (-threshold if soft else low - h) * derivative
                grad_h = _real(grad_s_B[i]) * derivative + grad_v_B[i] * kept
                _put(grad_x_B, i, grad_h * rate)
                grad_v_B[i] = grad_h
            if needs_rate:
                if t == 0:
                    _start(v_B, v_start, b, low)
                for i in range(n):
                    if t > 0:
                        h = h_TB[t - 1, i]
                        v_B[i] = (h - threshold if soft else low) if h >= threshold else h
                    grad_rate += grad_v_B[i] * (_real(x[t * x_stride + b + i]) - (v_B[i] - low))
            for i in range(n):
                grad_v_B[i] *= _ONE - rate
        if grad_start.size:
            grad_start[b : b + n] = grad_v_B
    return grad_rate


@_compiled
def ilif_forward(
    x: np.ndarray,
    x_stride: int,
    r_start: np.ndarray,
    gain: float,
    s: np.ndarray,
    r_end: np.ndarray,
    D: float,
    decay: float,
    T: int,
    N: int,
    begin: int,
    end: int,
) -> int:
    """Fire neurons `begin` to `end` through all steps; see `functional.ilif`."""
    room_B = np.empty(BLOCK, np.float32)
    for b in range(begin, end, BLOCK):
        r_B = room_B[: min(BLOCK, end - b)]
        n = r_B.size
        _start(r_B, r_start, b, np.float32(0))
        for t in range(T):
            x_B, s_B = x[t * x_stride + b : t * x_stride + b + n], s[t * N + b : t * N + b + n]
            for i in range(n):
                u = _fma(r_B[i], decay, _real(x_B[i]) * gain)
                level = _round(u, D)
                r_B[i] = u - level
                _put(s_B, i, level / D)
        if r_end.size:
            r_end[b : b + n] = r_B
    return 0


@_compiled
def _round(u: float, top: float) -> float:
    """round(clip(u, 0, top)), half to even, through which NaN passes: fp32 has no fractions from 2^23 on."""
    big = np.float32(8388608)
    clipped = np.float32(0) if u < 0 else (top if u > top else u)
    return (clipped + big) - big


@_compiled
def ilif_backward(
    x: np.ndarray,
    x_stride: int,
    r_start: np.ndarray,
    gain: float,
    grad_s: np.ndarray,
    grad_s_stride: int,
    grad_end: np.ndarray,
    grad_x: np.ndarray,
    grad_start: np.ndarray,
    needs_gain: bool,
    D: float,
    decay: float,
    detach_reset: bool,
    T: int,
    N: int,
    begin: int,
    end: int,
) -> float:
    """Write the gradients of neurons `begin` to `end`; return that of the gain, 0 if it is not needed."""
    rooms, grad_gain = np.empty((T + 2, BLOCK), np.float32), 0.0
    for b in range(begin, end, BLOCK):
        n = min(BLOCK, end - b)
        r_B, grad_r_B, u_TB = rooms[0][:n], rooms[1][:n], rooms[2:]
        _start(r_B, r_start, b, np.float32(0))
        for t in range(T):
            x_B, u_B = x[t * x_stride + b : t * x_stride + b + n], u_TB[t][:n]
            for i in range(n):
                u_B[i] = _fma(r_B[i], decay, _real(x_B[i]) * gain)
                r_B[i] = u_B[i] - _round(u_B[i], D)
        _start(grad_r_B, grad_end, b, np.float32(0))
        for t in range(T - 1, -1, -1):
            u_B, grad_x_B = u_TB[t][:n], grad_x[t * N + b : t * N + b + n]
            grad_s_B = grad_s[t * grad_s_stride + b : t * grad_s_stride + b + n]
            for i in range(n):
                u, grad_s_i, grad_r = u_B[i], _real(grad_s_B[i]) / D, grad_r_B[i]
                inside = (u >= 0) & (u <= D)
                grad_u = grad_s_i if inside else np.float32(0)
                grad_u += np.float32(0) if inside & (not detach_reset) else grad_r
                _put(grad_x_B, i, grad_u * gain)
                grad_r_B[i] = grad_u
            if needs_gain:
                for i in range(n):
                    grad_gain += grad_r_B[i] * _real(x[t * x_stride + b + i])
            for i in range(n):
                grad_r_B[i] *= decay
        if grad_start.size:
            grad_start[b : b + n] = grad_r_B
    return grad_gain
