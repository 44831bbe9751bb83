"""Config dataclasses from plain values and back, with the near name where one is unknown."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from spikeclip.config.ranges import check_values
from spikeclip.errors import InputError, unknown

Config = TypeVar("Config")


def from_dict(cls: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """Build a config dataclass from nested plain values (YAML or JSON), checking names, types and ranges.

    Raises `InputError` that names the key, the value that came and what was expected.
    """
    hints = typing.get_type_hints(cls)
    if not isinstance(values, Mapping):
        raise InputError(f"{where or cls.__name__}: expected a table of settings, got {values!r}")
    for key in values:
        if key not in hints:
            raise unknown(f"key in {where or 'the recipe'}", str(key), hints)
    prefix = f"{where}." if where else ""
    converted = {k: convert(hints[k], v, f"{prefix}{k}") for k, v in values.items()}
    check_values(cls, converted, prefix)
    return cls(**converted)


def convert(hint: Any, value: Any, where: str) -> Any:
    """Return a plain value as the type `hint` has it; raises `InputError` that names the key, `where`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        choices = [a for a in args if a is not type(None)]
        if any(typing.get_origin(a) is Literal and value in typing.get_args(a) for a in choices):
            return value
        rest = [a for a in choices if typing.get_origin(a) is not Literal] or choices
        listed = isinstance(value, (list, tuple))
        fitting = (a for a in rest if (typing.get_origin(a) is list) == listed)
        return convert(next(fitting, rest[0]), value, where)
    if origin is Literal:
        if value not in args:
            raise unknown(f"value of {where}", str(value), map(str, args))
        return value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)  # type: ignore[arg-type]
    if origin is list and isinstance(value, (list, tuple)):
        return [convert(args[0], v, f"{where}.{i}") for i, v in enumerate(value)]
    if origin is tuple and isinstance(value, (list, tuple)):
        if args[-1] is not Ellipsis and len(args) != len(value):
            raise InputError(f"{where}: expected {len(args)} values, got {list(value)}")
        return tuple(convert(args[0], v, f"{where}.{i}") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise InputError(f"{where}: expected {getattr(origin or hint, '__name__', hint)}, got {value!r}")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config dataclass as nested plain values; `from_dict` reads them back."""
    return dataclasses.asdict(config)
