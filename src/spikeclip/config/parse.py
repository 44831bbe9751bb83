"""Config dataclasses from plain values and back, with the near name where one is unknown."""

from __future__ import annotations

import contextlib
import dataclasses
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from spikeclip.config.ranges import check_values
from spikeclip.errors import InputError, unknown

Config = TypeVar("Config")

CHARACTERS = 4096
"""The longest text that a setting may hold, as the longest path of a file."""


def from_dict(cls: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """Build a config dataclass from nested plain values (YAML or JSON), checking names, types and ranges.

    Raises `InputError` that names the key, the value that came and what was expected; also for a missing key where
    the dataclass has no default.
    """
    hints = typing.get_type_hints(cls)
    if not isinstance(values, Mapping):
        raise InputError(f"{where or cls.__name__}: expected a table of settings, got {reprlib.repr(values)}")
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in hints:
            raise unknown(f"key in {where or 'the recipe'}", str(key), hints)
    converted = {k: convert(hints[k], v, f"{prefix}{k}") for k, v in values.items()}
    for name in required(cls):
        if name not in values:
            raise InputError(f"{prefix}{name} is missing: expected {expected(hints[name])}")
    check_values(cls, converted, prefix)
    return cls(**converted)


def convert(hint: Any, value: Any, where: str) -> Any:
    """Return a plain value as the type `hint` has it; raises `InputError` that names the key, `where`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(args, value, where)
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
            raise InputError(f"{where}: expected {len(args)} values, got {reprlib.repr(list(value))}")
        return tuple(convert(args[0], v, f"{where}.{i}") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {convert(args[0], k, where): convert(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)  # YAML 1.1 reads 1e-3 as a string
    if hint is str and isinstance(value, str):
        return _text(value, where)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    quotes = "; write it in quotes" if hint is str and isinstance(value, (int, float)) else ""
    raise InputError(f"{where}: expected {expected(hint)}, got {reprlib.repr(value)}{quotes}")


def required(cls: type) -> list[str]:
    """Return the names of the fields of a dataclass that have no default."""
    absent = dataclasses.MISSING
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    return [field.name for field in fields if field.default is field.default_factory is absent]


def expected(hint: Any) -> str:
    """Return what values a type takes, in words: "str or list of str", "one of adamw, muon"."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return ("one of " if len(args) > 1 else "") + ", ".join(map(str, args))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(expected(arg) for arg in args)
    if dataclasses.is_dataclass(hint):
        return " with ".join(filter(None, ("table", " and ".join(required(hint)))))  # type: ignore[arg-type]
    if origin in (list, tuple) and args:
        return f"list of {expected(args[0]).replace('table', 'tables')}"
    if hint is type(None):
        return "null"
    return "table" if origin is dict else getattr(hint, "__name__", str(hint))


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config dataclass as nested plain values; `from_dict` reads them back."""
    return dataclasses.asdict(config)


def _one_of(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    """Return a value as the first of several types that fits its kind: null, a literal, a list, or another."""
    if value is None and type(None) in hints:
        return None
    choices = [hint for hint in hints if hint is not type(None)]
    if any(typing.get_origin(hint) is Literal and value in typing.get_args(hint) for hint in choices):
        return value
    rest = [hint for hint in choices if typing.get_origin(hint) is not Literal] or choices
    listed = isinstance(value, (list, tuple))
    fitting = (hint for hint in rest if (typing.get_origin(hint) is list) == listed)
    try:
        return convert(next(fitting, rest[0]), value, where)
    except InputError as error:
        if len(rest) == len(choices):
            raise
        wanted = " or ".join(expected(hint) for hint in hints)
        raise InputError(f"{where}: expected {wanted}, got {reprlib.repr(value)}") from error


def _text(value: str, where: str) -> str:
    if len(value) > CHARACTERS:
        raise InputError(f"{where} has {len(value):,} characters; at most {CHARACTERS:,} are allowed")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InputError(f"{where} holds a character that no text or file name has: {reprlib.repr(value)}")
    return value
