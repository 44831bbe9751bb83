"""What every drawing of curves and bars shares; matplotlib is imported when something is drawn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spikeclip.errors import missing_extra
from spikeclip.files import replacing

COLOURS = ("#c4501b", "#e8a13a", "#1f5f9e", "#5b9bd0", "#9fb3c8", "#6b7280")
"""Spiking networks orange, ordinary ones blue, the teacher grey: everyone can distinguish them, also in grey print."""

_ORDER = (0, 2, 1, 5, 3, 4)  # of colours: neighbours differ most
_MARKERS = "osD^vP"
_DASHES = ("-", "--", ":", "-.")


def check_drawing() -> None:
    """Raise `InputError` where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise missing_extra("matplotlib")


def can_draw() -> bool:
    """Whether matplotlib is installed; where it is not, warn that the figures beside a result are left out."""
    found = find_spec("matplotlib") is not None
    if not found:
        warnings.warn(f"figures are left out; {missing_extra('matplotlib')}", stacklevel=2)
    return found


def style(index: int) -> dict[str, str]:
    """Return colour, marker and line of the curve with this index; no two of the first 36 look alike.

    Where curves lie on each other, the dashes of a later one leave the earlier one to be seen.
    """
    return {
        "color": COLOURS[_ORDER[index % len(_ORDER)]],
        "marker": _MARKERS[(index + index // len(_ORDER)) % len(_MARKERS)],
        "linestyle": _DASHES[index % len(_DASHES)],
    }


def shades(count: int, colours: Sequence[str]) -> list[tuple[float, ...]]:
    """Return so many different colours, evenly between the given ones, as red, green and blue from 0 to 1."""
    stops_C3 = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours]) / 255
    places = np.linspace(0, len(colours) - 1, count)
    rgb_3N = [np.interp(places, range(len(colours)), channel) for channel in stops_C3.T]
    return [tuple(map(float, rgb)) for rgb in zip(*rgb_3N, strict=True)]


def error_bars(values: ArrayLike, intervals: ArrayLike, low: float = 0.0, high: float = np.inf) -> np.ndarray:
    """Return lengths of error bars below and above values (2, N) that end at `low` and `high`.

    What is measured lies between them. An interval that is not known (NaN) gets no bar.
    """
    values_N, intervals_N = np.atleast_1d(np.asarray(values, float)), np.nan_to_num(np.atleast_1d(intervals))
    return np.stack([np.clip(values_N - low, 0, intervals_N), np.clip(high - values_N, 0, intervals_N)])


def panels(
    width: float, height: float, columns: int = 1, rows: int = 1, sharey: bool = False
) -> tuple[Any, Any]:
    """Return an empty matplotlib figure, inches, and its axes: one, or an array of them; nothing is shown.

    Raises `InputError` where matplotlib is not installed.
    """
    check_drawing()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, sharey=sharey)
    for panel in np.ravel(axes):
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def from_zero(panel: Any) -> None:
    """Let the y axis begin at zero and end a little above everything that is drawn."""
    panel.set_ylim(0, 1.06 * panel.get_ylim()[1])


def save_figure(figure: Any, path: Path) -> None:
    """Write a matplotlib figure, as PNG, all of it or nothing."""
    with replacing(path) as file:
        figure.savefig(file, format="png")
