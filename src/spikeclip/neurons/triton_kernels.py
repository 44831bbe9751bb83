"""The neurons' loops over time as Triton kernels; `triton` launches them.

A program carries a block of membranes through all time steps in fp32 registers, so that forward reads the current
and writes the spikes once, whatever T. Backward needs the charged membranes from the last step to the first: it charges
HELD steps, keeps those in registers and goes back through them, from the last HELD steps to the first, and so needs no
memory beside the result. Of a longer current the steps before are charged anew for each part.

rate_ptr, gain_ptr: a pointer where the number is LEARNED, else the number itself.
i: numbers of the elements of a time step, in memory order. Consecutive steps of a result are N elements apart.
"""

# These functions are written for Triton's compiler, which reads Python's syntax with types of its own.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import math

import triton
import triton.language as tl

HALF_PI = tl.constexpr(math.pi / 2)


@triton.jit
def _load(ptr: tl.tensor, i: tl.tensor, exists: tl.tensor, default: tl.constexpr):
    """Return elements `i` in fp32; `default` where there is no tensor."""
    if ptr is None:
        return tl.full(i.shape, default, tl.float32)
    else:  # Triton compiles what follows a return
        return tl.load(ptr + i, exists, 0.0).to(tl.float32)


@triton.jit
def _lif_step(x: tl.tensor, v: tl.tensor, rate: tl.tensor, V_THRESHOLD: tl.constexpr, V_RESET: tl.constexpr):
    """Return (drive, charged membrane, membrane after the reset); see `functional.lif`."""
    drive = _lif_drive(x, v, V_RESET)
    h = v + drive * rate
    return drive, h, _lif_reset(h, V_THRESHOLD, V_RESET)


@triton.jit
def _lif_drive(x: tl.tensor, v: tl.tensor, V_RESET: tl.constexpr):
    return x - v if V_RESET is None else x - (v - V_RESET)


@triton.jit
def _lif_reset(h: tl.tensor, V_THRESHOLD: tl.constexpr, V_RESET: tl.constexpr):
    return tl.where(h >= V_THRESHOLD, h - V_THRESHOLD if V_RESET is None else V_RESET, h)


@triton.jit
def _surrogate(x: tl.tensor, NAME: tl.constexpr, ALPHA: tl.constexpr):
    """Return the derivative `NAME` of `surrogate` at x."""
    if NAME == "sigmoid":
        s = tl.sigmoid(ALPHA * x)
        return s * (1 - s) * ALPHA
    elif NAME == "atan":
        z = HALF_PI * ALPHA * x
        return (ALPHA / 2) / (1 + z * z)
    else:
        tl.static_assert(NAME == "rectangular")
        return tl.where(tl.abs(x) < 0.5 / ALPHA, ALPHA, 0.0)


@triton.jit
def lif_forward(
    x_ptr: tl.tensor,
    v_ptr: tl.tensor,
    rate_ptr: tl.tensor,
    s_ptr: tl.tensor,
    v_end_ptr: tl.tensor,
    x_stride: tl.tensor,
    V_THRESHOLD: tl.constexpr,
    V_RESET: tl.constexpr,
    T: tl.tensor,
    N: tl.tensor,
    LEARNED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = i < N
    rate = tl.load(rate_ptr) if LEARNED else rate_ptr
    v = _load(v_ptr, i, exists, 0.0 if V_RESET is None else V_RESET)
    for _ in range(T):
        x = _load(x_ptr, i, exists, 0.0)
        _drive, h, v = _lif_step(x, v, rate, V_THRESHOLD, V_RESET)
        s = tl.where(h >= V_THRESHOLD, 1.0, 0.0)
        tl.store(s_ptr + i, s.to(s_ptr.dtype.element_ty), exists)
        x_ptr += x_stride
        s_ptr += N
    if v_end_ptr is not None:
        tl.store(v_end_ptr + i, v, exists)


@triton.jit
def lif_backward(
    x_ptr: tl.tensor,
    v_ptr: tl.tensor,
    rate_ptr: tl.tensor,
    grad_s_ptr: tl.tensor,  # at the last time step, as grad_x_ptr
    grad_v_ptr: tl.tensor,
    grad_x_ptr: tl.tensor,
    grad_v_start_ptr: tl.tensor,
    grad_rate_ptr: tl.tensor,
    x_stride: tl.tensor,
    grad_s_stride: tl.tensor,
    V_THRESHOLD: tl.constexpr,
    V_RESET: tl.constexpr,
    DETACH_RESET: tl.constexpr,
    SURROGATE: tl.constexpr,
    ALPHA: tl.constexpr,
    T: tl.constexpr,
    N: tl.tensor,
    LEARNED: tl.constexpr,
    BLOCK: tl.constexpr,
    HELD: tl.constexpr,
) -> None:
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = i < N
    rate = tl.load(rate_ptr) if LEARNED else rate_ptr
    v_start = _load(v_ptr, i, exists, 0.0 if V_RESET is None else V_RESET)
    grad_v = _load(grad_v_ptr, i, exists, 0.0)
    grad_rate = tl.zeros((BLOCK,), tl.float32)
    for part in range(T // HELD - 1, -1, -1):
        v_part = v_start
        x_t_ptr = x_ptr
        for _ in range(part * HELD):
            _drive, _h, v_part = _lif_step(_load(x_t_ptr, i, exists, 0.0), v_part, rate, V_THRESHOLD, V_RESET)
            x_t_ptr += x_stride
        v = v_part
        charged = ()
        for _ in tl.static_range(HELD):
            _drive, h, v = _lif_step(_load(x_t_ptr, i, exists, 0.0), v, rate, V_THRESHOLD, V_RESET)
            charged = charged + (h,)  # noqa: RUF005
            x_t_ptr += x_stride
        for t in tl.static_range(HELD - 1, -1, -1):
            h = charged[t]
            derivative = _surrogate(h - V_THRESHOLD, SURROGATE, ALPHA)
            kept = (
                tl.full((BLOCK,), 1.0, tl.float32)
                if V_RESET is None
                else tl.where(h >= V_THRESHOLD, 0.0, 1.0)
            )
            if not DETACH_RESET:
                kept += (-V_THRESHOLD if V_RESET is None else V_RESET - h) * derivative
            grad_h = _load(grad_s_ptr, i, exists, 0.0) * derivative + grad_v * kept
            if grad_rate_ptr is not None:
                x_t_ptr -= x_stride
                v = v_part
                if t > 0:
                    v = _lif_reset(charged[t - 1], V_THRESHOLD, V_RESET)
                grad_rate += grad_h * _lif_drive(_load(x_t_ptr, i, exists, 0.0), v, V_RESET)
            tl.store(grad_x_ptr + i, (grad_h * rate).to(grad_x_ptr.dtype.element_ty), exists)
            grad_v = grad_h * (1 - rate)
            grad_s_ptr -= grad_s_stride
            grad_x_ptr -= N
    if grad_v_start_ptr is not None:
        tl.store(grad_v_start_ptr + i, grad_v, exists)
    if grad_rate_ptr is not None:
        tl.store(grad_rate_ptr + tl.program_id(0), tl.sum(grad_rate))


@triton.jit
def _ilif_step(x: tl.tensor, r: tl.tensor, gain: tl.tensor, D: tl.constexpr, DECAY: tl.constexpr):
    """Return (membrane, spikes that it fires); see `functional.ilif`. Like PyTorch's, it lets NaN through."""
    u = tl.fma(r, DECAY, x * gain)
    clipped = tl.where(u < 0, 0.0, tl.where(u > D, D, u))
    return u, (clipped + 8388608.0) - 8388608.0  # fp32 has no fractions from 2^23 on: rounds half to even


@triton.jit
def ilif_forward(
    x_ptr: tl.tensor,
    r_ptr: tl.tensor,
    gain_ptr: tl.tensor,
    s_ptr: tl.tensor,
    r_end_ptr: tl.tensor,
    x_stride: tl.tensor,
    D: tl.constexpr,
    DECAY: tl.constexpr,
    T: tl.tensor,
    N: tl.tensor,
    LEARNED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = i < N
    gain = tl.load(gain_ptr) if LEARNED else gain_ptr
    r = _load(r_ptr, i, exists, 0.0)
    for _ in range(T):
        u, n = _ilif_step(_load(x_ptr, i, exists, 0.0), r, gain, D, DECAY)
        r = u - n
        tl.store(s_ptr + i, tl.div_rn(n, D).to(s_ptr.dtype.element_ty), exists)
        x_ptr += x_stride
        s_ptr += N
    if r_end_ptr is not None:
        tl.store(r_end_ptr + i, r, exists)


@triton.jit
def ilif_backward(
    x_ptr: tl.tensor,
    r_ptr: tl.tensor,
    gain_ptr: tl.tensor,
    grad_s_ptr: tl.tensor,  # at the last time step, as grad_x_ptr
    grad_r_ptr: tl.tensor,
    grad_x_ptr: tl.tensor,
    grad_r_start_ptr: tl.tensor,
    grad_gain_ptr: tl.tensor,
    x_stride: tl.tensor,
    grad_s_stride: tl.tensor,
    D: tl.constexpr,
    DECAY: tl.constexpr,
    DETACH_RESET: tl.constexpr,
    T: tl.constexpr,
    N: tl.tensor,
    LEARNED: tl.constexpr,
    BLOCK: tl.constexpr,
    HELD: tl.constexpr,
) -> None:
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = i < N
    gain = tl.load(gain_ptr) if LEARNED else gain_ptr
    r_start = _load(r_ptr, i, exists, 0.0)
    grad_r = _load(grad_r_ptr, i, exists, 0.0)
    grad_gain = tl.zeros((BLOCK,), tl.float32)
    for part in range(T // HELD - 1, -1, -1):
        r = r_start
        x_t_ptr = x_ptr
        for _ in range(part * HELD):
            u, n = _ilif_step(_load(x_t_ptr, i, exists, 0.0), r, gain, D, DECAY)
            r = u - n
            x_t_ptr += x_stride
        charged = ()
        for _ in tl.static_range(HELD):
            u, n = _ilif_step(_load(x_t_ptr, i, exists, 0.0), r, gain, D, DECAY)
            r = u - n
            charged = charged + (u,)  # noqa: RUF005
            x_t_ptr += x_stride
        for t in tl.static_range(HELD - 1, -1, -1):
            u = charged[t]
            inside = (u >= 0) & (u <= D)
            grad_u = tl.where(inside, _load(grad_s_ptr, i, exists, 0.0) / D, 0.0)
            grad_u += grad_r if DETACH_RESET else tl.where(inside, 0.0, grad_r)
            if grad_gain_ptr is not None:
                x_t_ptr -= x_stride
                grad_gain += grad_u * _load(x_t_ptr, i, exists, 0.0)
            tl.store(grad_x_ptr + i, (grad_u * gain).to(grad_x_ptr.dtype.element_ty), exists)
            grad_r = grad_u * DECAY
            grad_s_ptr -= grad_s_stride
            grad_x_ptr -= N
    if grad_r_start_ptr is not None:
        tl.store(grad_r_start_ptr + i, grad_r, exists)
    if grad_gain_ptr is not None:
        tl.store(grad_gain_ptr + tl.program_id(0), tl.sum(grad_gain))
