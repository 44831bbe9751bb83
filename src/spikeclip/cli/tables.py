"""Results as tables for people; the numbers for programs are in the JSON records."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spikeclip.evaluate.compare import short_names

_WIDE = 10**5  # columns, into a file or a pipe: no line is folded


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[int] = ()
) -> None:
    """Print rows to stdout; `numbers` are the columns to align on the right. Nothing is read as markup."""
    table = Table(box=SIMPLE, show_header=any(columns))
    for i, column in enumerate(columns):
        table.add_column(escape(column), justify="right" if i in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    if title:  # its own line: a table folds its title to the width of its columns
        console.print(title, style="bold", markup=False, soft_wrap=True)
    console.print(table)


def print_record(record: Mapping[str, Any]) -> None:
    """Print the metrics of a record, percent, and the mean firing rate."""
    data = record["provenance"]["data"]
    rows = [(name, _percent(value)) for name, value in record["metrics"].items()]
    if record["provenance"].get("protocol"):
        rows.append(("protocol", record["provenance"]["protocol"]))
    spikes = record.get("spikes")
    if spikes:
        rows.append(("spikes per neuron and time step", _number(spikes["mean_rate"])))
        rows.append(("activations that are not zero", _percent(spikes["mean_density"])))
    title = f"{record['model']} on {record['dataset']} {data['split']}, {data['pictures']} pictures"
    print_table(title, (record["task"], ""), rows, numbers=(1,))


def print_comparison(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows of `compare_records`, percent, and the points that a model gains or loses against the first."""
    models = list(rows[0]["values"])
    shown: list[tuple[str, ...]] = []
    for row in rows:
        data = f"{row['dataset']} {row['split']}"
        if not shown or data != shown[-1][0]:
            shown.append(
                (data, "", "protocol", *(row["protocols"].get(name) or "not known" for name in models))
            )
        cells = [_percent(row["values"].get(name)) for name in models]
        for i, name in enumerate(models[1:], 1):
            if name in row["changes"]:
                cells[i] += f" ({100 * row['changes'][name]:+.2f})"
        shown.append((data, row["task"], row["metric"], *cells))
    names = short_names(models)
    title = f"in brackets, points against {names[0]}" if len(models) > 1 else models[0]
    if not all(row["same_words"] for row in rows):
        title += "; each model is asked with the prompts and class names it was taught with, and they differ"
    print_table(title, ("data", "task", "metric", *names), shown, numbers=range(3, 3 + len(models)))


def print_networks(title: str, networks: Sequence[Mapping[str, Any]]) -> None:
    """Print networks side by side: the rows of `run_demo`."""
    columns = ("network", "seen pairs", "held-out pairs", "spikes per neuron and step", "training")
    rows = [
        (
            row["name"],
            _percent(row["seen"]),
            _percent(row["held_out"]),
            _number(row["mean_rate"]),
            f"{row['seconds']:.0f} s",
        )
        for row in networks
    ]
    print_table(title, columns, rows, numbers=(1, 2, 3, 4))


def print_own(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows of `train_own`; the title says of which pictures the interval and the spikes are."""
    split = "test" if rows[0]["test"] is not None else "validation"
    columns = (
        "network",
        "validation",
        "test",
        "95 % interval",
        "spikes per neuron and step",
        "training",
        "folder",
    )
    cells = [
        (
            row["name"],
            *map(_percent, (row["validation"], row["test"])),
            "-" if row["interval"] is None else "{:.0%} to {:.0%}".format(*row["interval"]),
            _number(row["mean_rate"]),
            f"{row['seconds']:.0f} s",
            row["folder"],
        )
        for row in rows
    ]
    print_table(f"{title}; interval and spikes of the {split} pictures", columns, cells, numbers=range(1, 6))


def print_text_tower(record: Mapping[str, Any]) -> None:
    """Print what `compare_text_tower` returns."""
    rows = [
        (name.replace("_", " "), group["texts"], _number(group["cosine"]), _number(group["centred_cosine"]))
        for name, group in record["texts"].items()
    ]
    print_table(
        f"text tower of {record['run']}",
        ("texts", "", "cosine to the teacher's", "centred"),
        rows,
        numbers=(1, 2, 3),
    )
    rows = [
        (
            row["embeddings"],
            f"{found['classes']} {kind}",
            found["pictures"],
            *map(_percent, map(found.get, ("teacher", "student"))),
        )
        for row in record["recognition"]
        for kind, found in row.items()
        if kind != "embeddings"
    ]
    columns = ("the teacher's embeddings of", "classes", "", "by its texts", "by the student's")
    if rows:
        print_table("recognised by text", columns, rows, numbers=(2, 3, 4))


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f} %"


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
