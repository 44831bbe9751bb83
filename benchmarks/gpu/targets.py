"""What is aimed at on one H100, as rows: what was measured of it, and whether that is enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.measure import TIMES
from benchmarks.gpu.neuron import BACKENDS
from benchmarks.gpu.steps import BASE

Found = Mapping[str, Mapping[str, Any]]
"""The measurements that were taken, by name."""
_COMMAND, _BARE = "command: spikeclip-tiny fine-tuning", "command: its bare step"


@dataclass(frozen=True)
class Target:
    """value(found) is None where something that it needs was not measured. low: whether less is better."""

    name: str
    value: Callable[[Found], float | None]
    least: float
    aim: float
    low: bool = False

    def row(self, found: Found) -> dict[str, Any]:
        """Return the row of the record; `met` is aim, at least, no or not measured."""
        value = self.value(found)
        sign, met = -1 if self.low else 1, "no"
        if value is None:
            met = "not measured"
        elif sign * value >= sign * self.least:
            met = "aim" if sign * value >= sign * self.aim else "at least"
        return {"target": self.name, "value": value, "at_least": self.least, "aim": self.aim, "met": met}


def over_floor(found: Found, name: str) -> float | None:
    """Return a neuron's time over that of its traffic at the bandwidth of a copy."""
    neuron, copy = found.get(name), found.get("copy")
    return neuron["seconds"] * copy["bytes_per_second"] / neuron["bytes"] if neuron and copy else None


def _ratio(a: str, b: str, what: str = "pictures_per_second") -> Callable[[Found], float | None]:
    def value(found: Found) -> float | None:
        return found[a][what] / found[b][what] if a in found and b in found else None

    return value


def _peer(found: Found, precision: str) -> Mapping[str, Any] | None:
    """Return the fastest of SpikingJelly's backends that ran."""
    names = (f"step: {BASE} LIF T=4, {precision}, SpikingJelly {backend}" for backend in BACKENDS)
    return max(
        (found[n] for n in names if n in found), key=lambda row: row["pictures_per_second"], default=None
    )


def _over_peer(precision: str, what: str, how: str = "compiled") -> Callable[[Found], float | None]:
    def value(found: Found) -> float | None:
        ours, theirs = found.get(f"step: {BASE} LIF T=4, {precision}, {how}"), _peer(found, precision)
        if not ours or not theirs or not theirs[what]:
            return None
        return ours[what] / theirs[what]

    return value


def _slowest_neuron(found: Found) -> float | None:
    ratios = [over_floor(found, f"neuron: LIF T={T}, ours") for T in TIMES if T >= 4]
    return max((r for r in ratios if r is not None), default=None) if None not in ratios else None


TARGETS = (
    Target(
        "command's fine-tuning of spikeclip-tiny, pictures/s",
        lambda found: found.get(_COMMAND, {}).get("pictures_per_second"),
        60_000,
        60_000,
    ),
    Target("the same over the bare step", _ratio(_COMMAND, _BARE), 0.0, 0.9),
    Target(
        "I-LIF in the 4-384 tower over its ReLU twin, default settings",
        _ratio(f"step: {BASE} I-LIF, bf16, compiled", f"step: {BASE} ReLU, bf16, compiled"),
        0.85,
        0.95,
    ),
    Target("LIF T=4 over SpikingJelly's best, fp32", _over_peer("fp32", "pictures_per_second"), 1.2, 2.0),
    Target("LIF T=4 over SpikingJelly's best, bf16", _over_peer("bf16", "pictures_per_second"), 1.5, 2.0),
    Target("its memory over theirs, fp32", _over_peer("fp32", "peak_bytes"), 0.4, 0.3, low=True),
    Target("its memory over theirs, bf16", _over_peer("bf16", "peak_bytes"), 0.4, 0.3, low=True),
    Target("LIF, T = 4 to 16, time over memory-traffic floor", _slowest_neuron, 2.0, 1.3, low=True),
)
