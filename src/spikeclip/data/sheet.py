"""A contact sheet: some pictures of a split with their class names or captions."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from spikeclip.data.pictures import Pictures
from spikeclip.data.readers.events import as_picture
from spikeclip.data.sources import draw
from spikeclip.errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FONT = {"fontsize": 8, "color": "#20242b"}


def contact_sheet(pictures: Pictures, title: str = "") -> Figure:
    """Draw 40 pictures, from each class in turn, with their class names, or else 20 with their first captions.

    Equal pictures give an equal sheet. Nothing is shown: save it with `figure.savefig("sheet.png")`.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "train") from error
    named = pictures.labels is not None
    count, columns, side, lines, wide = (40, 8, 1.25, 2, 18) if named else (20, 5, 2.0, 4, 28)
    chosen = draw(len(pictures), pictures.labels, count).tolist()
    if named:
        chosen.sort(key=lambda i: int(pictures.labels[i]))  # type: ignore[index]
    columns = min(columns, len(chosen))
    gap, head, below = 0.08, 0.35 if title else 0.08, 0.14 * lines + 0.1  # inches, as all that follows
    width = gap + columns * (side + gap)
    height = head + -(-len(chosen) // columns) * (side + below)
    figure = Figure(figsize=(width, height), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))  # one for all pictures: forty axes take seconds
    axes.set_axis_off()
    for place, i in enumerate(chosen):
        left = gap + place % columns * (side + gap)
        top = head + place // columns * (side + below)
        extent = (left, left + side, top + side, top)
        axes.imshow(as_picture(pictures.images[i]), extent=extent, aspect="auto", interpolation="nearest")
        text = textwrap.wrap(_text(pictures, i), wide, max_lines=lines, placeholder=" ...")
        axes.text(left + side / 2, top + side + 0.04, "\n".join(text), ha="center", va="top", **_FONT)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    if title:
        figure.suptitle(title, y=1 - 0.08 / height, fontsize=11, va="top")
    return figure


def _text(pictures: Pictures, i: int) -> str:
    if pictures.labels is not None:
        return pictures.classnames[int(pictures.labels[i])].replace("_", " ")
    return next(iter((pictures.captions or [[]] * len(pictures))[i]), "")
