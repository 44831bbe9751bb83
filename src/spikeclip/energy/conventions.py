"""The constants and conventions of a ledger: one data file, and what a user's YAML changes in it."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from spikeclip.config import from_dict
from spikeclip.config.ranges import Range
from spikeclip.config.read import read_yaml
from spikeclip.errors import InputError

ArithmeticName = Literal["fp32", "fp16", "int8", "int32"]


Bits = Annotated[int, Range(1, 64)]
Amount = Annotated[float, Range(0, 1e9)]
Macs = Annotated[int, Range(0, 10**18)]
_ABOVE_ZERO = Range(0, 1e9, low_open=True)


@dataclass(frozen=True)
class Arithmetic:
    bits: Bits
    """Width of a word."""
    add: Amount
    """pJ of an addition (and of a comparison)."""
    multiply: Amount
    """pJ of a multiplication."""
    accumulate: Amount
    """pJ of adding a weight to a sum, which is what a spike costs."""

    @property
    def mac(self) -> float:
        """pJ of a multiply-accumulate."""
        return self.multiply + self.add


@dataclass(frozen=True)
class ArithmeticTable:
    fp32: Arithmetic
    fp16: Arithmetic
    int8: Arithmetic
    int32: Arithmetic

    def __getitem__(self, name: ArithmeticName) -> Arithmetic:
        return getattr(self, name)


@dataclass(frozen=True)
class Update:
    """Operations of one activation in one time step."""

    multiply: Amount
    add: Amount
    compare: Amount

    def energy(self, arithmetic: Arithmetic, levels: int = 1) -> float:
        """pJ with `levels` levels to compare with."""
        return self.multiply * arithmetic.multiply + (self.add + self.compare * levels) * arithmetic.add


@dataclass(frozen=True)
class Updates:
    lif: Update
    ilif: Update
    relu: Update
    requantise: Update

    def __getitem__(self, kind: str) -> Update:
        return getattr(self, kind)


@dataclass(frozen=True)
class TeacherCost:
    name: str
    image_macs: Macs
    text_macs: Macs
    arithmetic: ArithmeticName = "fp32"


@dataclass(frozen=True)
class Conventions:
    """Everything a ledger assumes; `conventions.yaml` says what each means and where it comes from."""

    name: str
    source: str
    arithmetic: ArithmeticTable
    updates: Updates
    update_arithmetic: ArithmeticName
    real_arithmetic: ArithmeticName
    address_arithmetic: ArithmeticName
    first_layer: Literal["once", "every_step"]
    attention_order: Literal["written", "cheaper"]
    sram_KiB: Annotated[list[float], _ABOVE_ZERO]
    sram_pJ: Annotated[list[float], _ABOVE_ZERO]
    dram_pJ: Amount
    weights_in: Literal["sram", "dram"]
    state_bits: Bits
    text: Literal["amortised", "per_query", "none"]
    teacher: TeacherCost | None

    def access(self, size_bits: float, word_bits: float, dram: bool = False) -> float:
        """pJ of reading or writing one word of a memory of that size.

        Energy grows as a power of the size between two points of the table, and beyond its last as between the
        last two; below the first it is the first's. A narrow word costs its share of 64 bits.
        """
        if dram:
            return self.dram_pJ * word_bits / 64
        size, sizes, energies = size_bits / 8192, self.sram_KiB, self.sram_pJ
        if size <= sizes[0]:
            return energies[0] * word_bits / 64
        i = next((i for i in range(1, len(sizes)) if size <= sizes[i]), len(sizes) - 1)
        power = math.log(energies[i] / energies[i - 1]) / math.log(sizes[i] / sizes[i - 1])
        return energies[i] * (size / sizes[i]) ** power * word_bits / 64


def load_conventions(path: str | Path | None = None, **changes: Any) -> Conventions:
    """Return the default conventions, changed by a YAML file and then by `changes`, both nested as in the default.

    Raises `InputError` for a file that cannot be read, a key that does not exist and a value that does not fit.
    """
    values = yaml.safe_load(files("spikeclip.energy").joinpath("conventions.yaml").read_text())
    if path is not None:
        changed = _read(Path(path))
        values = _changed(values, {"name": f"{values['name']} changed by {Path(path).name}", **changed})
    conventions = from_dict(Conventions, _changed(values, changes), "conventions")
    table = conventions.sram_KiB, conventions.sram_pJ
    if len(table[0]) != len(table[1]) or len(table[0]) < 2 or any(sorted(row) != row for row in table):
        raise InputError(
            "conventions: sram_KiB and sram_pJ must be two rising lists of the same length, two or more"
        )
    return conventions


def _read(path: Path) -> Mapping[str, Any]:
    values = read_yaml(path)
    if not isinstance(values, Mapping):
        raise InputError(f"{path}: expected a table of conventions, got {reprlib.repr(values)}")
    return values


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = (
            _changed(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
        )
    return merged
