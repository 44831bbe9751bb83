"""What every drawing of curves and bars shares; matplotlib is imported when something is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spikeclip.errors import missing_extra
from spikeclip.files import replacing

COLOURS = ("#c4501b", "#e8a13a", "#1f5f9e", "#5b9bd0", "#9fb3c8", "#6b7280")
"""Spiking networks orange, ordinary ones blue, the teacher grey: everyone can distinguish them, also in grey print."""


def panels(
    width: float, height: float, columns: int = 1, rows: int = 1, sharey: bool = False
) -> tuple[Any, Any]:
    """Return an empty matplotlib figure, inches, and its axes: one, or an array of them; nothing is shown.

    Raises `InputError` where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "train") from error
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, sharey=sharey)
    for panel in np.ravel(axes):
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Any, path: Path) -> None:
    """Write a matplotlib figure, as PNG, all of it or nothing."""
    with replacing(path) as file:
        figure.savefig(file, format="png")
