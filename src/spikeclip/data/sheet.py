"""A contact sheet: some pictures of a split with their class names or captions."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from spikeclip.data.pictures import Pictures
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
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise missing_extra("matplotlib", "train") from error
    named = pictures.labels is not None
    count, columns, side, lines, width = (40, 8, 1.25, 2, 18) if named else (20, 5, 2.0, 4, 28)
    chosen = draw(len(pictures), pictures.labels, count).tolist()
    if named:
        chosen.sort(key=lambda i: int(pictures.labels[i]))  # type: ignore[index]
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    size = (side * columns, (side + 0.15 * lines) * rows + (0.4 if title else 0.1))
    figure = Figure(figsize=size, dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04))
    for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if place < len(chosen):
            i = chosen[place]
            axes.imshow(pictures.images[i], interpolation="nearest")
            text = textwrap.wrap(_text(pictures, i), width, max_lines=lines, placeholder=" ...")
            axes.text(0.5, -0.03, "\n".join(text), transform=axes.transAxes, ha="center", va="top", **_FONT)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _text(pictures: Pictures, i: int) -> str:
    if pictures.labels is not None:
        return pictures.classnames[int(pictures.labels[i])].replace("_", " ")
    return next(iter((pictures.captions or [[]] * len(pictures))[i]), "")
