"""The range of a setting stands beside its type, as data: `T: Annotated[int, Range(1, 64)]`; checks read it there."""

from __future__ import annotations

import dataclasses
import math
import reprlib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from spikeclip.errors import InputError


@dataclass(frozen=True)
class Range:
    """The finite numbers that a field may hold, or each entry of a tuple, list or table of numbers."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    """`low` itself is outside."""
    high_open: bool = False
    """`high` itself is outside."""

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and (isinstance(value, int) or math.isfinite(value))

    def __str__(self) -> str:
        low = "" if self.low == -math.inf else f"{'above' if self.low_open else 'at least'} {self.low:,}"
        high = "" if self.high == math.inf else f"{'below' if self.high_open else 'at most'} {self.high:,}"
        if low and high and not (self.low_open or self.high_open):
            return f"between {self.low:,} and {self.high:,}"
        return " and ".join(filter(None, (low, high)))


def check_ranges(instance: Any, prefix: str = "") -> None:
    """Check every number in a dataclass; to be called in its `__post_init__`.

    prefix: goes before a field's name in messages, such as "image.". Raises `InputError` that names field, value and
    range: for a number outside its range, NaN and infinity, and where a bool or float stands for an int. Dataclasses
    inside are left to their own checks.
    """
    values = {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}
    check_values(type(instance), values, prefix)


def check_values(cls: type, values: Mapping[str, Any], prefix: str = "") -> None:
    """Check values for fields of the dataclass `cls` as `check_ranges` does, before one is made of them."""
    for name, (range, leaves) in _numbers(cls).items():
        if name in values:
            _check(values[name], range, leaves, prefix + name)


def stated(cls: type, name: str) -> str:
    """Return the range of a field in words, such as "between 1 and 64", or "" where none is stated."""
    found = _numbers(cls).get(name)
    return str(found[0]) if found else ""


def _check(value: Any, range: Range, leaves: frozenset[Any], name: str) -> None:
    if isinstance(value, (list, tuple)):
        for i, entry in enumerate(value):
            _check(entry, range, leaves, f"{name}.{i}")
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            _check(entry, range, leaves, f"{name}.{key}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        whole = float not in leaves
        if value not in range or (whole and not isinstance(value, int)):
            raise InputError(f"{name} must be {_expected(range, whole)}, got {reprlib.repr(value)}")
    elif not (type(value) in leaves or (isinstance(value, str) and value in leaves)):
        raise InputError(f"{name} must be {_expected(range, float not in leaves)}, got {reprlib.repr(value)}")


def _expected(range: Range, whole: bool) -> str:
    return f"a {'whole ' if whole else ''}number {range}".rstrip()


@cache
def _numbers(cls: type) -> dict[str, tuple[Range, frozenset[Any]]]:
    """Return the fields that hold numbers: the range, and what else their types allow (types and literals)."""
    found = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        leaves, ranges = frozenset(_leaves(hint)), list(_ranges(hint))
        if leaves & {int, float}:
            found[name] = (ranges[0] if ranges else Range(), leaves)
    return found


def _leaves(hint: Any) -> typing.Iterator[Any]:
    """Yield the types that a hint is made of, and the values of its literals."""
    if typing.get_origin(hint) is Annotated:
        yield from _leaves(typing.get_args(hint)[0])
    elif typing.get_origin(hint) is Literal:
        yield from typing.get_args(hint)
    elif arguments := typing.get_args(hint):
        for argument in arguments[1:] if typing.get_origin(hint) is dict else arguments:
            yield from _leaves(argument)
    else:
        yield hint


def _ranges(hint: Any) -> typing.Iterator[Range]:
    if typing.get_origin(hint) is Annotated:
        yield from (entry for entry in hint.__metadata__ if isinstance(entry, Range))
    for argument in typing.get_args(hint):
        yield from _ranges(argument)
