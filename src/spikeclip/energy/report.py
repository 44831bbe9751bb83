"""One HTML file with everything inside: words, tables, figures. It loads nothing from elsewhere and runs no script."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from spikeclip.energy.figures import (
    Epoch,
    epochs_figure,
    kinds_figure,
    layers_figure,
    levels_figure,
    raster_figure,
    rates_figure,
)
from spikeclip.energy.words import amounts, break_even, pairs, summary
from spikeclip.figures import can_draw
from spikeclip.files import replacing
from spikeclip.graph.inputs import picture_batches
from spikeclip.graph.ops import Graph, Image
from spikeclip.records import read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#20242b;background:#fff}
h1{font-size:1.6rem} h2{font-size:1.15rem;margin-top:2.4rem} figure{margin:1rem 0} img{max-width:100%;height:auto}
figcaption,small{color:#5b626d;font-size:.9rem} table{border-collapse:collapse;font-size:.88rem}
.wide{overflow-x:auto} td,th{padding:.25rem .7rem;border-bottom:1px solid #e3e6ea;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left} pre{font-size:.8rem;overflow-x:auto;background:#f6f7f9;padding:.8rem}
li{margin:.35rem 0}
"""


def write_report(
    account: Mapping[str, Any],
    path: Path,
    graph: Graph[Image],
    image_HWC: np.ndarray,
    log: Path,
    title: str,
) -> None:
    """Write the report of an account (see `spikeclip.energy.account`) as one HTML file.

    graph: the image tower, whose spikes for one picture (uint8) are drawn. log: metrics.jsonl of its training, for the
    firing rate and accuracy of its checkpoints; left out where there is none. Without matplotlib the figures are left
    out, and a warning says so.
    """
    data = account["data"]
    drawn = can_draw()
    figures = _figures(account, graph, image_HWC, log) if drawn else []
    left_out = "" if drawn else "<p>Left out, because matplotlib is not installed where this was written.</p>"
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(data['source'])} {html.escape(data['split'])}, {data['pictures']:,} pictures, "
        f"{data['texts']} texts; run in {account['precision']}. Joules are counted, not measured, but for L4: "
        f"operations and their rates from this run times constants of a process, conventions "
        f"{html.escape(account['energy']['convention'])}, below. ± is half of the 95 % confidence interval over "
        f"pictures.</p>",
        "<h2>In words</h2>",
        "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in summary(account)) + "</ul>",
        "<h2>In numbers</h2>",
        _joules_table(account),
        _break_even_table(account),
        "<h2>In pictures</h2>",
        left_out,
        *(_figure_html(figure, caption) for figure, caption in figures),
        "<h2>What is assumed</h2>",
        "<p>Every constant below can be changed with <code>--conventions FILE</code>. Not counted: the network on the "
        "chip, leakage and idle power, decoding of the picture, tokenising, the similarity with the classes.</p>",
        _details("conventions", yaml.safe_dump(account["energy"]["conventions"], sort_keys=False, width=100)),
        _details("data", json.dumps(data, indent=1)),
    ]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(page.encode())


def training_epochs(log: Path) -> list[Epoch]:
    """Return the epochs of a run whose metrics.jsonl `log` is: accuracy, and the rates of the last batch logged before.

    Empty where there is no such file, or no rates in it. A line that a killed training cut short is passed over.
    """
    epochs: list[Epoch] = []
    rates: dict[str, float] = {}
    for entry in read_rows(log, {"stage": str})[0]:
        if "rates" in entry:
            rates = {name: rate for name, rate in entry["rates"].items() if name.startswith("image.")}
        if "val_acc1" in entry and rates:
            epochs.append(Epoch(entry["stage"], entry["val_acc1"], sum(rates.values()) / len(rates)))
    return epochs


def figure_data(figure: Figure) -> str:
    """Return a figure as a data URI of an SVG picture."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "spikeclip"}):  # the same figure is the same file
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _figures(
    account: Mapping[str, Any], graph: Graph[Image], image_HWC: np.ndarray, log: Path
) -> list[tuple[Figure, str]]:
    teacher = account["energy"]["conventions"]["teacher"]
    figures = [
        (levels_figure(account), "Energy of one picture at every level, as each network. L0 is comparable with papers "
         "and no claim." + (" The teacher has no L2: its memory is not counted." if teacher else "")),
        (layers_figure(account), "The same by layer of the image tower, at L2 tiled."),
        (kinds_figure(account), "What the energy is spent on, image tower."),
        (rates_figure(account), "Firing rate of every layer, with 95 % confidence intervals over the inputs."),
        (raster_figure(graph, next(picture_batches(graph, image_HWC[None]))),
         "Spikes of one picture in three layers: a row is a neuron, a column a time step or sub-step, black a spike."),
    ]  # fmt: skip
    if epochs := training_epochs(log):
        figures.append((epochs_figure(epochs), "Validation accuracy and firing rate in training."))
    return figures


def _figure_html(figure: Figure, caption: str) -> str:
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="{figure_data(figure)}"><figcaption>{text}</figcaption></figure>'


def _joules_table(account: Mapping[str, Any]) -> str:
    energy = account["energy"]
    rows = [[name, *amounts(energy, name)] for name in energy["total"]["joules"]]
    note = f"One picture, with its share of the text tower ({energy['total']['share']:.4g} texts)."
    return f"<p>{note}</p>" + _table(["network", *energy["levels"]], rows)


def _break_even_table(account: Mapping[str, Any]) -> str:
    energy = account["energy"]
    image, levels = energy["image"], energy["levels"]
    rows = []
    for name, twin in pairs(energy):
        known = image["break_even"][name]
        cells = (break_even(energy, name, twin, lv) if twin in known.get(lv, {}) else "-" for lv in levels)
        rows.append([f"{name} against {twin}", *cells])
    note = (
        f"Break-even of the image tower: spikes per neuron and step at which both cost the same, all layers scaled "
        f"alike. Measured: {image['rate']:.3f}; possible: up to {image['highest_rate']}. Above break-even the spiking "
        f"network loses; always and never mean that it is the cheaper one at every possible rate, or at none."
    )
    return f"<p>{note}</p>" + _table(["", *levels], rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _details(name: str, text: str) -> str:
    return f"<details><summary>{name}</summary><pre>{html.escape(text)}</pre></details>"
