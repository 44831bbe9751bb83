"""A contact sheet: some pictures of a split with their class names or captions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

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
    named = pictures.labels is not None
    chosen = draw(len(pictures), pictures.labels, 40 if named else 20).tolist()
    if named:
        chosen.sort(key=lambda i: int(pictures.labels[i]))  # type: ignore[index]
    images = [as_picture(pictures.images[i]) for i in chosen]
    return picture_sheet(images, [_text(pictures, i) for i in chosen], title, SMALL if named else LARGE)


class Layout(NamedTuple):
    """columns: of pictures. side: of a picture, inches. lines, wide: of the text below it, and its characters."""

    columns: int
    side: float
    lines: int
    wide: int


SMALL, LARGE = Layout(8, 1.25, 2, 18), Layout(5, 2.0, 4, 28)


def picture_sheet(
    images: Sequence[np.ndarray], texts: Sequence[str], title: str = "", layout: Layout = LARGE
) -> Figure:
    """Draw pictures, uint8 (H, W, 3) each, in their order, each with its text below; see `contact_sheet`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "train") from error
    side, columns = layout.side, min(layout.columns, len(images))
    gap, head, below = 0.08, 0.35 if title else 0.08, 0.14 * layout.lines + 0.1  # inches, as all that follows
    width = gap + columns * (side + gap)
    height = head + -(-len(images) // columns) * (side + below)
    figure = Figure(figsize=(width, height), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))  # one for all pictures: forty axes take seconds
    axes.set_axis_off()
    for place, (image, words) in enumerate(zip(images, texts, strict=True)):
        left = gap + place % columns * (side + gap)
        top = head + place // columns * (side + below)
        extent = (left, left + side, top + side, top)
        axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest")
        text = textwrap.wrap(words, layout.wide, max_lines=layout.lines, placeholder=" ...")
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
