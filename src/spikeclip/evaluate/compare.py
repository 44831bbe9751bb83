"""Several models on several data sets: what one keeps, gains or loses against another, as rows and as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeclip.errors import InputError
from spikeclip.figures import error_bars, from_zero, panels, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AXES = {
    "few_shot": "training pictures a class",
    "expanded_labels": "names added to the classes",
    "unseen_labels": "class names replaced",
    "corruption": "strength",
}
_LOGARITHMIC = ("few_shot", "expanded_labels")
_LEAST_RANGE = 10  # points of accuracy: a flat curve is to look flat


def compare_records(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each data set, task and metric.

    A row has `dataset`, `split`, `task`, `metric`, and by model `values`, `changes` against the first model and
    `protocols`; `same_words` says whether all were asked with the same class names and prompts. With the model before
    fine-tuning first, the changes on the other data sets are what fine-tuning did to zero-shot transfer. Raises
    `InputError` where two models were tested on different pictures or classes.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    tested: dict[tuple[str, ...], Any] = {}
    for record in records:
        source, name = record["provenance"], _model(record)
        place = {"dataset": record["dataset"], "split": source["data"]["split"], "task": record["task"]}
        # Counts, not fingerprints: models of two sizes read other pixels of the same pictures.
        parts = [source["data"], *(source["training_data"] or [])]
        words = source["prompts"] or {}
        about = [len(words.get("classnames", [])), source["seeds"], [part["pictures"] for part in parts]]
        first_about, first_words = tested.setdefault(tuple(place.values()), (about, words))
        if first_about != about:
            raise InputError(
                f"the records of {' '.join(place.values())} differ in pictures, classes or seeds"
            )
        for metric, value in record["metrics"].items():
            new = {**place, "metric": metric, "values": {}, "protocols": {}, "same_words": True}
            row = rows.setdefault((*place.values(), metric), new)
            row["same_words"] = row["same_words"] and words == first_words
            row["values"][name], row["protocols"][name] = value, source["protocol"]
    first = _model(records[0]) if records else ""
    for row in rows.values():
        base = row["values"].get(first, float("nan"))
        row["changes"] = {name: value - base for name, value in row["values"].items()}
    return list(rows.values())


def short_names(models: Sequence[str]) -> list[str]:
    """Return the names of several models without the folders that all of them start with."""
    if len(models) < 2:
        return list(models)
    parts = [Path(name).parts for name in models]
    same = [len(set(level)) == 1 for level in zip(*(folders[:-1] for folders in parts), strict=False)]
    shared = [*same, False].index(False)
    return [str(Path(*folders[shared:])) for folders in parts]


def retention_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the zero-shot accuracy on the first data set against that on every other one, a point for a model.

    Right is what fine-tuning on the first set gained, up is what is left elsewhere. rows: of `compare_records`. Raises
    `InputError` where fewer than two sets were classified.
    """
    shown = [row for row in rows if (row["task"], row["metric"]) == ("zeroshot_classification", "acc1")]
    if len(shown) < 2:
        raise InputError("retention is drawn over two data sets or more, classified zero-shot")
    first, *others = shown
    models = [name for name in first["values"] if all(name in row["values"] for row in others)]
    figure, axes = panels(4.2 * len(others), 3.9, len(others))
    for row, panel in zip(others, np.ravel(axes), strict=True):
        for place, (name, label) in enumerate(zip(models, short_names(models), strict=True)):
            x, y = 100 * first["values"][name], 100 * row["values"][name]
            look = {**style(place), "linestyle": "none", "markersize": 5 + 2.5 * (len(models) - place)}
            # Points on each other are rings around each other.
            panel.plot(x, y, label=label, markerfacecolor="none", markeredgewidth=1.5, **look)
        panel.set_xlabel(f"{first['dataset']} {first['split']}, %", fontsize=9)
        panel.set_ylabel(f"{row['dataset']} {row['split']}, %", fontsize=9)
        from_zero(panel)
    figure.legend(
        *np.ravel(axes)[0].get_legend_handles_labels(),
        loc="outside right upper",
        frameon=False,
        fontsize=8,
        markerscale=0.5,
    )
    return figure


def curves_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the curves of records of one task, a row of panels for a data set, a line for a model.

    Bars are 95 % confidence intervals over seeds. Raises `InputError` where there are no curves.
    """
    drawn = [record for record in records if record["curves"]]
    if not drawn:
        raise InputError("these records have no curves to draw")
    task, names = drawn[0]["task"], list(drawn[0]["curves"])
    sets = list(dict.fromkeys(map(_data, drawn)))
    models = list(dict.fromkeys(map(_model, drawn)))
    labels = short_names(models)
    height = 3.1 * len(sets) + 0.3 * len(models)
    figure, axes = panels(3.6 * len(names) + 1.2, height, len(names), len(sets), sharey=True)
    axes = np.reshape(axes, (len(sets), len(names)))
    for place, data in enumerate(sets):
        for name, panel in zip(names, axes[place], strict=True):
            for record in drawn:
                if _data(record) == data:
                    index = models.index(_model(record))
                    _line(panel, record["curves"][name], index, labels[index], task in _LOGARITHMIC)
            _ticks(panel, drawn[0]["curves"][name], task)
            title = [data] * (len(sets) > 1) + [name] * (len(names) > 1)
            panel.set_title(", ".join(title), fontsize=9)
        axes[place][0].set_ylabel("accuracy, %")
    low, high = axes[0][0].get_ylim()
    middle, half = (low + high) / 2, max(high - low, _LEAST_RANGE) / 2
    # A little beyond 0 and 100, so that a bar that ends there is seen whole.
    axes[0][0].set_ylim(max(-1, middle - half), min(101, middle + half))
    for panel in axes[-1]:
        panel.set_xlabel(_AXES[task], fontsize=9)
    handles: dict[str, Any] = {}
    for panel in np.ravel(axes):
        handles.update(
            {label: handle for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
        )
    figure.legend(handles.values(), handles, loc="outside upper left", frameon=False, fontsize=8)
    return figure


def _line(panel: Any, points: Sequence[Mapping[str, Any]], index: int, label: str, logarithmic: bool) -> None:
    means, intervals = (100 * np.array([p[key] for p in points], float) for key in ("mean", "interval"))
    places = np.array([p["x"] for p in points], float)
    shift = places * 0.05 if logarithmic else 0.1  # bars of several models would hide each other
    panel.errorbar(
        places + index * shift,
        means,
        error_bars(means, intervals, high=100),
        label=label,
        **style(index),
        markersize=3.5,
        linewidth=1.2,
        capsize=2,
    )


def _ticks(panel: Any, points: Sequence[Mapping[str, Any]], task: str) -> None:
    places = [p["x"] for p in points]
    if task in _LOGARITHMIC:
        panel.set_xscale("symlog", linthresh=1)
        panel.set_xticks(places[:1] + places[1::2], [f"{x:g}" for x in places[:1] + places[1::2]])
        panel.minorticks_off()
    else:
        panel.set_xticks(places)


def _data(record: Mapping[str, Any]) -> str:
    return f"{record['dataset']} {record['provenance']['data']['split']}"


def _model(record: Mapping[str, Any]) -> str:
    return str(record["pretrained"] or record["model"])
