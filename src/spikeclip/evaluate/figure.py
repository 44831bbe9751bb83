"""A grid of pictures with what a model takes them for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spikeclip.data.readers.events import as_picture
from spikeclip.errors import InputError
from spikeclip.figures import check_drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spikeclip.data.pictures import Pictures

RIGHT, WRONG, REST = "#2469b3", "#d9622b", "#b9bec6"  # blue and orange, which everyone can distinguish
_TOP = 3
_LONGEST_NAME = 20


def predictions_figure(
    pictures: Pictures,
    scores_NK: np.ndarray,
    classnames: Sequence[str],
    *,
    title: str = "",
    columns: int = 4,
    labels: np.ndarray | None = None,
) -> Figure:
    """Draw pictures, their true names and the three highest scores of each as bars; returns the figure.

    scores_NK: share of each class, 0 to 1, one row per picture. The first bar is blue where it is right and
    orange where it is wrong; the true class is bold wherever it stands. labels: (N,) into `classnames`, those
    of the pictures by default. Nothing is shown: save it with `figure.savefig("predictions.png")`. Raises
    `InputError` where the shapes do not fit.
    """
    check_drawing()
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    scores_NK = np.asarray(scores_NK, np.float64)
    labels = pictures.labels if labels is None else labels
    count = len(pictures)
    if labels is None or scores_NK.shape != (count, len(classnames)) or len(labels) != count or not count:
        raise InputError(
            f"{count} pictures, {0 if labels is None else len(labels)} labels, scores {scores_NK.shape} and "
            f"{len(classnames)} class names do not fit: expected N, N, (N, K) and K"
        )
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (3.6 * columns, 1.75 * rows + (0.5 if title else 0.1))
    figure = Figure(figsize=size, dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.07))
    axes = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=[1, 1.15] * columns)
    for place in range(rows * columns):
        picture, bars = axes[place // columns, 2 * (place % columns) :][:2]
        picture.set_axis_off()
        bars.set_axis_off()
        if place < count:
            picture.imshow(as_picture(pictures.images[place]), interpolation="nearest")
            picture.set_title(_short(str(classnames[int(labels[place])])), fontsize=10, color="#20242b")
            _draw_bars(bars, scores_NK[place], classnames, int(labels[place]))
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _draw_bars(axes, scores_K: np.ndarray, classnames: Sequence[str], label: int) -> None:  # noqa: ANN001
    best = np.argsort(-scores_K, kind="stable")[:_TOP]
    colours = [(RIGHT if best[0] == label else WRONG), *[REST] * (len(best) - 1)]
    places = np.arange(len(best))
    axes.barh(places + 0.22, scores_K[best], height=0.3, color=colours, clip_on=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(_TOP - 0.35, -0.6)
    for place, index in enumerate(best.tolist()):
        name, share = _short(str(classnames[index])), f"{scores_K[index]:.0%}"
        weight = "bold" if index == label else "normal"
        axes.text(0, place, name, fontsize=8.5, weight=weight, va="bottom", color="#20242b")
        axes.text(1, place, share, fontsize=8.5, va="bottom", ha="right", color="#5b626d")


def _short(name: str) -> str:
    name = name.replace("_", " ")
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3].rstrip() + "..."
