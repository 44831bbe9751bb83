"""Kernels whose lines are shared among the threads of numba's pool, and how they are compiled.

numba's `parallel=True` takes three times as long to compile, for every kernel anew. Here a kernel is compiled once,
as plain code, and one short parallel loop calls any of them by its address.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from threading import RLock
from typing import Any

import numpy as np
from llvmlite import ir
from numba import get_num_threads, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from spikeclip.compiled import compiled, has_place, is_kept

_I64, _VOID = ir.IntType(64), ir.VoidType()
_COMPILING = RLock()
_PARTS = 4
"""Parts of the lines for each thread: one that is held up, or has many spikes, leaves some to the others."""
_LEAST = 8
"""Lines of a part, where there are enough for all threads: it takes a microsecond to begin."""
KERNELS: dict[str, Kernel] = {}
"""All kernels by name, those that take longest to compile first."""


class Kernel:
    """`function(first, last, *arguments)`, which does lines first to last, as a call `(lines, *arguments)`.

    kinds: numba's types of the arguments; for others a call is a `TypeError`.
    """

    def __init__(self, name: str, function: Callable[..., None], *kinds: Any) -> None:
        self.name = name
        self._function = compiled(function, nogil=True, no_cpython_wrapper=True)
        self._kinds = (types.intp, types.intp, *kinds)
        self._launch = compiled(_launcher(name, function), nogil=True, no_cfunc_wrapper=True)
        self._launched = (*(types.intp,) * 4, *kinds)
        self._address: int | None = None
        self._kept = False
        KERNELS[name] = self

    def is_ready(self) -> bool:
        """Whether it is compiled, in this process or on disk."""
        if not self._kept and self._address is None:  # every call of an engine asks, the disk answers once
            self._kept = is_kept(self._function, self._kinds) and is_kept(self._launch, self._launched)
        return self._kept or self._address is not None

    def has_place(self) -> bool:
        """Whether it is kept on disk once it is compiled."""
        return has_place(self._function)

    def compile(self) -> int:
        """Compile what is not compiled yet, or read it from disk; return the kernel's address."""
        with _COMPILING:
            if self._address is None:
                self._launch.compile(self._launched)
                self._launch.disable_compile()  # memory is never read as what it is not
                self._address = _address(self._function, self._kinds)
            return self._address

    def __call__(self, lines: int, *arguments: Any) -> None:
        kernel = self._address or self.compile()
        self._launch(_share(), lines, min(lines, get_num_threads()), kernel, *arguments)


def compile_kernels(kernels: Iterable[Kernel]) -> None:
    """Compile kernels that are not compiled yet, half of them in a second process, and say so on stderr.

    It takes seconds, once in an installation for each kernel.
    """
    with _COMPILING:
        names = {kernel.name for kernel in kernels if not kernel.is_ready()}
        missing = [name for name in KERNELS if name in names]
        if not missing:
            return
        later = ", kept for later starts" if KERNELS[missing[0]].has_place() else ""
        print(f"compiling the engine for this processor: {len(missing)} kernels{later} ...", file=sys.stderr)
        process = _compile_elsewhere(missing[1::2])
        try:
            for name in missing[0::2]:
                KERNELS[name].compile()
            _share()
            if process is not None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=60)
        finally:
            if process is not None:
                process.kill()
        for name in missing[1::2]:
            KERNELS[name].compile()  # from disk, or here where the other process could not


def _compile_elsewhere(names: list[str]) -> subprocess.Popen | None:
    """Start a process that compiles kernels and leaves them on disk; None where that cannot help."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not names or processors < 2 or not sys.executable:
        return None
    code = f"import sys; sys.path = {json.dumps(sys.path)}\n"
    code += "import spikeclip.engine.run, spikeclip.engine.threads as threads\n"
    code += f"for name in {json.dumps(names)}: threads.KERNELS[name].compile()"
    nothing = subprocess.DEVNULL
    with suppress(OSError):
        return subprocess.Popen([sys.executable, "-c", code], stdin=nothing, stdout=nothing, stderr=nothing)
    return None


def _address(function: Any, kinds: tuple) -> int:
    """Return the address of a compiled function, with C's calling convention."""
    function.compile(kinds)
    found = function.overloads[kinds]
    return found.library.get_pointer_to_function(found.fndesc.llvm_cfunc_wrapper_name)


@cache
def _share() -> int:
    """Return the address of the loop that calls parts in threads."""
    with _COMPILING:
        return _address(compiled(_share_lines, parallel=True, nogil=True), (types.intp,) * 4)


@intrinsic
def _call(typing_context, function, first, last, arguments):  # noqa: ANN001
    """Call the function at an address with three integers."""

    def codegen(context, builder, signature, args):  # noqa: ANN001
        kind = ir.FunctionType(_VOID, [_I64] * 3).as_pointer()
        builder.call(builder.inttoptr(args[0], kind), args[1:])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def _taken(typing_context, count):  # noqa: ANN001
    """Return the number in an array of one, and add 1 to it, as if no other thread did so at the same time."""

    def codegen(context, builder, signature, args):  # noqa: ANN001
        place = context.make_array(count)(context, builder, args[0]).data
        return builder.atomic_rmw("add", place, ir.Constant(_I64, 1), "monotonic")

    return types.intp(count), codegen


def _share_lines(part: int, arguments: int, lines: int, threads: int) -> None:
    """Call `part(first, last, arguments)` for all parts of the lines; each thread takes the next as it is done."""
    if threads == 1:
        _call(part, 0, lines, arguments)  # type: ignore
        return
    parts, count = min(lines, max(threads, min(_PARTS * threads, lines // _LEAST))), np.zeros(1, np.intp)
    for _ in prange(threads):
        i = _taken(count)  # type: ignore
        while i < parts:
            _call(part, lines * i // parts, lines * (i + 1) // parts, arguments)  # type: ignore
            i = _taken(count)  # type: ignore


@intrinsic
def _in_threads(typing_context, share, lines, threads, arguments):  # noqa: ANN001
    """Let `share` call a kernel; arguments: its address, then what it reads behind the first and the last line."""

    def codegen(context, builder, signature, args):  # noqa: ANN001
        share, lines, threads, values = args
        store = cgutils.alloca_once_value(builder, values)
        part = ir.Function(
            builder.module, ir.FunctionType(_VOID, [_I64] * 3), builder.module.get_unique_name("part")
        )
        part.linkage = "internal"
        inside = ir.IRBuilder(part.append_basic_block())
        first, last, place = part.args
        stored = inside.load(inside.inttoptr(place, store.type))
        given: list[Any] = [inside.extract_value(stored, i) for i in range(len(arguments.types))]
        # Without owners: two threads that count the uses of one array wait for each other at every position.
        for i, kind in enumerate(arguments.types):
            if isinstance(kind, types.Array):
                owner = inside.extract_value(given[i], 0)
                given[i] = inside.insert_value(given[i], ir.Constant(owner.type, None), 0)
        nothing = context.get_value_type(types.none)
        function, *given = given
        kernel = ir.FunctionType(nothing, [_I64, _I64, *(value.type for value in given)])
        inside.call(inside.inttoptr(function, kernel.as_pointer()), [first, last, *given])
        inside.ret_void()
        loop = ir.FunctionType(nothing, [_I64] * 4)
        numbers = [builder.ptrtoint(part, _I64), builder.ptrtoint(store, _I64), lines, threads]
        builder.call(builder.inttoptr(share, loop.as_pointer()), numbers)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, arguments), codegen


def _launcher(name: str, function: Callable[..., None]) -> Callable[..., None]:
    """Return the Python function whose compiled form lets `function` run in threads.

    It has one parameter for each of the kernel's: `*arguments` would cost 5 microseconds a call. Its own name is a file
    of its own on disk, where two processes may write at a time.
    """
    arguments = ", ".join(["kernel", *list(inspect.signature(function).parameters)[2:]])
    code = f"def launch_{name}(share, lines, threads, {arguments}):\n"
    code += f"    _in_threads(share, lines, threads, ({arguments},))"
    made: dict[str, Any] = {}
    exec(compile(code, __file__, "exec"), globals(), made)
    return made[f"launch_{name}"]
