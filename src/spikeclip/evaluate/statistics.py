"""Means over seeds, and shares of pictures, with their confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

_Z95 = 1.959964
_ANGLES = 20_001  # of the integral below: the quantile is right to six digits


class Point(TypedDict):
    """One point of a curve: `values` of the seeds at `x`, their `mean`, and `interval`, half of its 95 % interval."""

    x: float
    mean: float
    interval: float
    values: list[float]


def point(x: float, values: Sequence[float]) -> Point:
    """Return the point of a curve where the seeds gave `values`."""
    mean, interval = mean_interval(values)
    return {"x": x, "mean": mean, "interval": interval, "values": list(values)}


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half of its 95 % confidence interval by Student's t; NaN for a single value."""
    count = len(values)
    if count < 2:
        return float(np.mean(values)) if count else math.nan, math.nan
    return float(np.mean(values)), t_quantile(count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count)


def share_bounds(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share of `count` things, by Wilson's formula, right for few things too.

    From E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    z2 = _Z95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def t_quantile(degrees: int, level: float = 0.95) -> float:
    """Return the t with `level` of Student's distribution in [-t, t].

    With t = sqrt(degrees) tan(a) the density in a is proportional to cos(a)^(degrees - 1), smooth on [0, pi/2].
    """
    angles = np.linspace(0, np.pi / 2, _ANGLES)
    density = np.cos(angles) ** (degrees - 1)
    share = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(degrees) * math.tan(np.interp(level, share / share[-1], angles))
