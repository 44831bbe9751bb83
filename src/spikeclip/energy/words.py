"""The account in plain words: at which level, and against which ordinary network, the spiking one wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spikeclip.energy.compare import SPIKING

SPIKING_NAMES = tuple(network.name for network in SPIKING)
MEANING = {
    "L0": "counting as papers do (fp32, first layer and synaptic operations only; not a claim)",
    "L1": "counting every operation",
    "L2 tiled": "with memory and addresses, each stored number fetched once",
    "L2 no reuse": "with memory and addresses, every operand fetched every time",
}


def amount(joules: float) -> str:
    """Return joules with a unit a reader can take in."""
    for unit, factor in (("J", 1.0), ("mJ", 1e3), ("µJ", 1e6), ("nJ", 1e9)):
        if joules * factor >= 1:
            return f"{joules * factor:.3g} {unit}"
    return f"{joules * 1e12:.3g} pJ"


def against(joules: float, name: str, other: float) -> str:
    """Say how the first compares with `name`, which costs `other` joules."""
    share = joules / other
    if share > 1:
        return f"{share:.3g} times the {name}"
    return f"{1 - share:.1%} below the {name}" if share > 0.01 else f"1 / {1 / share:,.0f} of the {name}"


def summary(account: Mapping[str, Any]) -> list[str]:
    """Return sentences about an account (see `spikeclip.energy.account`), the important ones first."""
    energy, spikes = account["energy"], account["spikes"]
    return [
        _verdict(energy),
        *_accuracy(account),
        f"Its neurons fire {spikes['mean_rate']:.3f} times per time step (an activation n counts n); "
        f"{spikes['mean_density']:.1%} of its activations are not zero.",
        *(
            _level(energy, name, level)
            for level in energy["levels"]
            for name in SPIKING_NAMES
            if level != "L0" or name == SPIKING_NAMES[0]  # the literature's level knows fp32 only
        ),
        *(_costs(energy, level) for level in energy["levels"][1:]),
        _teacher(energy),
        _measured(energy.get("measured")),
    ]


def _pairs(energy: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which ordinary twin each spiking network is compared with: the one of the same weights."""
    twins = [name for name in energy["image"]["joules"] if name not in SPIKING_NAMES]
    fp32, int8 = SPIKING_NAMES
    return [(fp32 if twin.endswith("fp32") else int8, twin) for twin in twins]


def _verdict(energy: Mapping[str, Any]) -> str:
    total = energy["total"]["joules"]
    parts = []
    for level in energy["levels"][1:]:
        less = {
            twin.removeprefix("ANN twin, "): total[own][level] < total[twin][level]
            for own, twin in _pairs(energy)
        }
        wins, losses = ([twin for twin, won in less.items() if won == sought] for sought in (True, False))
        said = [
            f"{word} {', '.join(twins)}"
            for word, twins in (("wins against", wins), ("loses to", losses))
            if twins
        ]
        parts.append(f"{level} {' and '.join(said)}")
    return (
        f"Against ordinary twins with weights of its own width, the spiking network at {'; at '.join(parts)}."
    )


def _costs(energy: Mapping[str, Any], level: str) -> str:
    """Name what costs most at a level, with int8 weights."""
    costs: dict[str, float] = {}
    for row in energy["image"]["ledger"][SPIKING_NAMES[1]][level]:
        costs[row["what"]] = costs.get(row["what"], 0.0) + row["joules"]
    most = sorted(costs.items(), key=lambda item: -item[1])[:4]
    shares = (f"{what} {joules / sum(costs.values()):.0%}" for what, joules in most)
    return f"What it spends most on at {level}, int8 weights: {', '.join(shares)}."


def _accuracy(account: Mapping[str, Any]) -> list[str]:
    accuracy, twin = account["metrics"].get("acc1"), account.get("twin")
    if accuracy is None:
        return []
    text = f"It recognises {accuracy:.2%} of {account['data']['pictures']:,} pictures, run in {account['precision']}"
    if twin:
        gap = 100 * (accuracy - twin["acc1"])
        where = "above" if gap >= 0 else "below"
        text += f"; its ordinary twin {twin['acc1']:.2%}: {abs(gap):.2f} points {where} it"
    return [f"{text}."]


def _level(energy: Mapping[str, Any], name: str, level: str) -> str:
    total, even = energy["total"]["joules"], energy["image"]["break_even"]
    own = total[name][level]
    parts = []
    for spiking, twin in _pairs(energy):
        if spiking == name:
            rate = even[name][level][twin]
            limit = "it would cost more in silence" if rate is None else f"break-even at a rate of {rate:.3g}"
            parts.append(f"{against(own, twin, total[twin][level])} ({limit})")
    return f"{level}, {MEANING[level]}: {name}, {amount(own)} a picture, {'; '.join(parts)}."


def _teacher(energy: Mapping[str, Any]) -> str:
    total = energy["total"]["joules"]
    teacher = next(name for name in total if name.startswith("teacher"))
    own = min(total[name]["L1"] for name in SPIKING_NAMES)
    return (
        f"The {teacher}, needs {amount(total[teacher]['L1'])} a picture at L1; the cheaper spiking network, at another "
        f"accuracy and on smaller pictures, {against(own, 'teacher', total[teacher]['L1'])}."
    )


def _measured(measured: Mapping[str, Any] | None) -> str:
    if measured is None:
        return "L4, wall time and joules, was not measured in this run."
    joules = ", ".join(f"{amount(j)} by {meter}" for meter, j in measured["joules"].items())
    joules = joules or f"joules unknown, {measured['why_no_joules']}"
    return f"L4, measured ({measured['what']}): {1e3 * measured['seconds']:.3g} ms a picture; {joules}."
