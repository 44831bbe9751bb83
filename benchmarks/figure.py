"""Images/s and accuracy over density, the ordinary network's runtimes as lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def density_figure(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Draw the rows of `benchmarks.scaling density` into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ran = [row for row in rows if row["median"]]
    spiking = [row for row in ran if not row["ann"]]
    figure, (speed, accuracy) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    labels = list(dict.fromkeys(row["label"] for row in spiking))
    for index, label in enumerate(labels):
        # Curves that lie on each other are seen by their width.
        look = {"marker": "o", "linewidth": 1.5 + 1.5 * (len(labels) - 1 - index), "label": f"engine {label}"}
        points = sorted((row for row in spiking if row["label"] == label), key=lambda row: row["density"])
        density = [100 * row["density"] for row in points]
        speed.plot(density, [row["images_per_second"] for row in points], **look)
        accuracy.plot(density, [100 * row["accuracy"] for row in points], **look)
    for number, row in enumerate(row for row in ran if row["ann"]):
        line = {"label": row["label"], "color": f"C{number + 3}", "linestyle": "--", "linewidth": 1}
        speed.axhline(row["images_per_second"], **line)
        accuracy.axhline(100 * row["accuracy"], **line)
    for axes, what in ((speed, "images/s"), (accuracy, "accuracy, %")):
        axes.set(xlabel="activations that are not zero, %", ylabel=what)
        axes.grid(alpha=0.3)
    speed.set_yscale("log")
    figure.legend(*speed.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
