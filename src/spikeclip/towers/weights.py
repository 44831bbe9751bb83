"""Weights from files into modules: names, shapes and types are compared before anything is allocated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spikeclip.errors import InputError, first_line, printable
from spikeclip.files import check_readable

Module = TypeVar("Module", bound=nn.Module)

_TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
"""Types of safetensors that stand for numbers with a fraction; any of them is read as what the module has."""
_SHOWN = 3


class Stored(NamedTuple):
    """What a file says of one of its tensors."""

    shape: tuple[int, ...]
    dtype: str
    """As safetensors names it: F32, I64."""


def load_file(make: Callable[[], Module], file: Path) -> Module:
    """Return the module that `make` builds, with the weights of a safetensors file.

    Raises `InputError` for a file that is missing, damaged, of another module, or holds numbers that are none.
    """
    if not file.is_file():
        raise InputError(f"{file.parent} has a config.json but no {file.name}")
    check_readable(file)
    try:
        with safe_open(file, "pt") as stored:
            names = list(stored.keys())
            parts = {name: stored.get_slice(name) for name in names}
            found = {name: Stored(tuple(p.get_shape()), p.get_dtype()) for name, p in parts.items()}
            module = _shaped(make, found, str(file))
            state = {name: stored.get_tensor(name) for name in names}
    except InputError:
        raise
    except Exception as error:  # safetensors' own, and what the system says of a file that cannot be opened
        raise InputError(f"{file} is not a readable safetensors file: {first_line(error)}") from error
    return _filled(module, state, str(file))


def load_state(make: Callable[[], Module], state: Mapping[str, Tensor], where: str) -> Module:
    """Return the module that `make` builds, with the weights of a state dict; raises `InputError` as `load_file`."""
    names = {dtype: name for name, dtype in _TYPES.items()}
    found = {k: Stored(tuple(v.shape), names.get(v.dtype, str(v.dtype))) for k, v in state.items()}
    return _filled(_shaped(make, found, where), state, where)


def weights_hash(model: nn.Module) -> str:
    """Return a hash of every parameter and buffer, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class _Unset(TorchFunctionMode):
    """Leave new tensors without numbers; random ones on "meta" would first load PyTorch's compiler, for a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        if func is torch.linalg.qr:
            return args[0], args[0]
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


def _shaped(make: Callable[[], Module], found: Mapping[str, Stored], where: str) -> Module:
    """Return the module on "meta", without memory for its weights; `InputError` lists what differs from `found`."""
    with torch.device("meta"), _Unset():
        module = make()
    expected = module.state_dict()
    problems = [f"missing {k}" for k in expected if k not in found]
    problems += [f"unexpected {printable(k)[:80]}" for k in found if k not in expected]
    for name, value in expected.items():
        if name in found and found[name].shape != tuple(value.shape):
            problems.append(f"{name} is {found[name].shape}, expected {tuple(value.shape)}")
        elif name in found and found[name].dtype not in _TYPES:
            problems.append(f"{name} holds {found[name].dtype}, expected {value.dtype}")
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InputError(f"{where} does not match its configuration: {'; '.join(problems[:_SHOWN])}{more}")
    return module


def _filled(module: Module, state: Mapping[str, Tensor], where: str) -> Module:
    values = {}
    for name, expected in module.state_dict().items():
        value = values[name] = state[name].to(
            expected.dtype, copy=True, memory_format=torch.contiguous_format
        )
        bad = int(value.numel() - value.isfinite().sum())
        if bad:
            raise InputError(f"{where}: {bad} of {value.numel()} numbers of {name} are NaN or infinite")
        if name.endswith("running_var") and bool((value < 0).any()):
            raise InputError(f"{where}: {name} is a variance, and holds numbers below 0")
    module.load_state_dict(values, assign=True)
    return module
