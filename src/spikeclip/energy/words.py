"""The account in plain words: at which level, and against which ordinary network, the spiking one wins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from spikeclip.energy.compare import SPIKING
from spikeclip.energy.firing import Z95

SPIKING_NAMES = tuple(network.name for network in SPIKING)
MEANING = {
    "L0": "counting as papers do (fp32, first layer and synaptic operations only; too little to conclude from)",
    "L1": "counting every operation",
    "L2 tiled": "with memory and addresses, each stored number fetched once",
    "L2 no reuse": "with memory and addresses, every operand fetched every time",
}
LEGEND = {
    **MEANING,
    "L3": "these levels compared with the same network run as an ordinary one (the rows ANN twin)",
    "L4": "measured time and joules on this machine (--measure)",
}
"""What each level means, for whoever reads a table of them."""


def amount(joules: float, interval: float = math.nan) -> str:
    """Return joules, and half of their confidence interval where there is one, with a unit a reader can take in."""
    units = {"J": 1.0, "mJ": 1e3, "µJ": 1e6, "nJ": 1e9, "pJ": 1e12}
    unit = next((unit for unit, factor in units.items() if joules * factor >= 1), "pJ")
    value, half = joules * units[unit], interval * units[unit]
    if not half > 0:
        return f"{value:.3g} {unit}"
    decimals = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    shown = f"{half:.{decimals}f}" if half >= 0.5 * 10**-decimals else f"{half:.1g}"
    return f"{value:.{decimals}f} ± {shown} {unit}"


def amounts(energy: Mapping[str, Any], name: str) -> list[str]:
    """Return what a picture costs as a network at every level, "-" where that level does not count it."""
    joules, intervals = (energy["total"][key].get(name, {}) for key in ("joules", "intervals"))
    levels = energy["levels"]
    return [amount(joules[lv], intervals.get(lv, math.nan)) if lv in joules else "-" for lv in levels]


def share_interval(share: float, of: int) -> float:
    """Return half of the 95 % confidence interval of a share of so many things (Wald)."""
    return Z95 * math.sqrt(share * (1 - share) / of)


def pairs(energy: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return which ordinary twin each spiking network is compared with: the one of the same weights."""
    twins = [name for name in energy["image"]["joules"] if name not in SPIKING_NAMES]
    fp32, int8 = SPIKING_NAMES
    return [(fp32 if twin.endswith("fp32") else int8, twin) for twin in twins]


def break_even(energy: Mapping[str, Any], name: str, twin: str, level: str) -> str:
    """Return the rate at which both cost the same; `never` or `always` where one is cheaper at every possible rate."""
    rate = energy["image"]["break_even"][name][level][twin]
    if rate is None:
        return "never"
    return "always" if rate > energy["image"]["highest_rate"] else f"{rate:.2g}"


def against(joules: float, name: str, other: float) -> str:
    """Return in words how `joules` compare with `name`, which costs `other` joules."""
    share = joules / other
    if share > 1:
        return f"{share:.2g} times the {name}"
    return (
        f"{100 - 100 * share:.0f} % below the {name}"
        if share > 0.01
        else f"1 / {1 / share:,.0f} of the {name}"
    )


def summary(account: Mapping[str, Any], levels: bool = True) -> list[str]:
    """Return sentences about an account (see `spikeclip.energy.account`), the important ones first.

    levels: with one for every level, which says much that a table of joules shows too.
    """
    energy, spikes = account["energy"], account["spikes"]
    return [
        _verdict(energy),
        *_accuracy(account),
        f"Its neurons fire {spikes['mean_rate']:.2f} times per time step (an activation n counts n); "
        f"{100 * spikes['mean_density']:.0f} % of its activations are not zero.",
        "A twin is the same layers run densely as an ordinary network. Its energy is counted, its accuracy is not "
        "tried: neither int8 weights nor few bits of activation need keep that of fp32.",
        *(_level(energy, level) for level in energy["levels"] if levels),
        *_teacher(energy),
        _measured(energy.get("measured")),
    ]


def _verdict(energy: Mapping[str, Any]) -> str:
    total = energy["total"]["joules"]
    parts: list[str] = []
    for level in energy["levels"][1:]:
        less = {
            twin.removeprefix("ANN twin, "): total[spiking][level] < total[twin][level]
            for spiking, twin in pairs(energy)
        }
        wins, losses = ([twin for twin, won in less.items() if won == sought] for sought in (True, False))
        phrases = [
            f"{word} {', '.join(twins)}"
            for word, twins in (("wins against", wins), ("loses to", losses))
            if twins
        ]
        parts.append(f"{level} {' and '.join(phrases)}")
    return f"Against its ordinary twins, at the same width of weights, the spiking network at {'; at '.join(parts)}."


def _costs(energy: Mapping[str, Any], level: str) -> str:
    """Name what costs most at a level, with int8 weights."""
    costs: dict[str, float] = {}
    for row in energy["image"]["ledger"][SPIKING_NAMES[1]][level]:
        costs[row["what"]] = costs.get(row["what"], 0.0) + row["joules"]
    shares = {what: 100 * joules / sum(costs.values()) for what, joules in costs.items()}
    most = sorted(shares, key=lambda what: -shares[what])[:4]
    return ", ".join(f"{what} {shares[what]:.0f} %" for what in most if shares[what] >= 1)


def _accuracy(account: Mapping[str, Any]) -> list[str]:
    accuracy, twin = account["metrics"].get("acc1"), account.get("twin")
    if accuracy is None:
        return []
    pictures = account["data"]["pictures"]
    text = (
        f"It recognises {100 * accuracy:.1f} ± {100 * share_interval(accuracy, pictures):.1f} % of {pictures:,} "
        f"pictures, run in {account['precision']}"
    )
    if twin:
        text += f"; an ordinary twin that was trained, {100 * twin['acc1']:.1f} %"
        gap = 100 * (accuracy - twin["acc1"])
        where = "above" if gap >= 0 else "below"
        same = twin["pictures"] == pictures
        text += f": {abs(gap):.1f} points {where} it" if same else f" of {twin['pictures']:,} pictures"
    return [f"{text}."]


def _level(energy: Mapping[str, Any], level: str) -> str:
    total = energy["total"]["joules"]
    parts = [f"{level}, {MEANING[level]}"]
    for name in SPIKING_NAMES:
        if level not in total[name]:
            continue
        twins = []
        for twin in (twin for spiking, twin in pairs(energy) if spiking == name):
            rate = break_even(energy, name, twin, level)
            limits = {
                "never": "costs more even without any spikes",
                "always": "costs less however much it fires",
            }
            limit = limits.get(rate, f"break-even at {rate} spikes per neuron")
            twins.append(f"{against(total[name][level], twin, total[twin][level])} ({limit})")
        cost = amount(total[name][level], energy["total"]["intervals"][name][level])
        parts.append(f"{name.capitalize()}: {cost} a picture, {'; '.join(twins)}")
    if level != "L0":
        parts.append(f"Most of the latter: {_costs(energy, level)}")
    return f"{'. '.join(parts)}."


def _teacher(energy: Mapping[str, Any]) -> list[str]:
    total, teacher = energy["total"]["joules"], energy["conventions"]["teacher"]
    if teacher is None:
        return []
    cost = total[f"teacher, {teacher['name']}"]["L1"]
    spiking = SPIKING_NAMES[not teacher["arithmetic"].startswith("fp")]
    return [
        f"The teacher, {teacher['name']}, needs {amount(cost)} a picture at L1, matrix products alone, in "
        f"{teacher['arithmetic']} and on pictures of its own size; at another accuracy, {spiking}: "
        f"{against(total[spiking]['L1'], 'teacher', cost)}."
    ]


def _measured(measured: Mapping[str, Any] | None) -> str:
    if measured is None:
        return "L4, wall time and joules, was not measured in this run."
    joules = ", ".join(f"{amount(j)} by {meter}" for meter, j in measured["joules"].items())
    joules = joules or f"joules unknown, {measured['why_no_joules']}"
    return f"L4, measured ({measured['what']}): {1e3 * measured['seconds']:.3g} ms a picture; {joules}."
