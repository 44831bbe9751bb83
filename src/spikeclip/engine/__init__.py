"""Event-driven inference of a `Graph` on the CPU (extra `runtime`); imports no PyTorch."""

from importlib.util import find_spec

from spikeclip.errors import missing_extra

if find_spec("numba") is None or find_spec("llvmlite") is None:
    raise missing_extra("numba")

from spikeclip.engine.engine import Engine
from spikeclip.engine.runtime import Runtime

__all__ = ["Engine", "Runtime"]
