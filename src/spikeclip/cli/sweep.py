"""`spikeclip sweep`: accuracy against energy over strengths of the firing-rate regulariser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Train a recipe at several penalties on spikes.

The penalty is the firing-rate regulariser; each strength is `loss.rate` of the last stage, a finetune. The ReLU
twin and the quantised twin are trained by the same recipe. --out gets a run for each, sweep.json, and a figure for
each level: validation accuracy against the energy of a picture. Run it again to continue: finished runs are kept,
an interrupted one goes on."""
EXAMPLES = """Examples:

\b
  spikeclip sweep recipes/shapes.yaml
  spikeclip sweep recipes/cifar10.yaml seed=1 --strengths 0,0.03,0.1,0.3 --out runs/cifar10-sweep"""


def sweep(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A YAML file or a built-in name.", show_default=False)
    ],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="key=value", help="Settings to change.", show_default=False),
    ] = None,
    strengths: Annotated[
        str, typer.Option(metavar="A,B,...", help="Strengths of the regulariser.")
    ] = "0,0.03,0.1,0.3",
    conventions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML with energy constants to change.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs.", show_default="runs/<name of the recipe>-sweep")
    ] = None,
) -> None:
    """Run the sweep."""
    from spikeclip.energy.conventions import load_conventions
    from spikeclip.errors import InputError
    from spikeclip.train.recipe import load_recipe

    config, assumed = load_recipe(recipe, changes or []), load_conventions(conventions)
    try:
        numbers = [float(part) for part in strengths.split(",")]
    except ValueError:
        raise InputError(f"--strengths expects numbers separated by commas, got {strengths!r}") from None
    from spikeclip.cli.tables import print_table
    from spikeclip.energy.words import amount
    from spikeclip.studies.sweep import LEVELS, run_sweep

    folder = out or Path("runs") / f"{recipe.stem}-sweep"
    result = run_sweep(config, folder, numbers, assumed)
    rows = [
        (
            row["name"],
            f"{100 * row['accuracy']:.2f} ± {100 * row['interval']:.2f} %",
            "-" if row["rate"] is None else f"{row['rate']:.3f}",
            *(amount(row["joules"][level]) for level in LEVELS),
        )
        for row in result["networks"]
    ]
    columns = ("network", "validation accuracy", "spikes per neuron and step", *LEVELS)
    title = "energy of one picture; spiking networks with int8 weights, in accuracy too; twins' accuracy as trained"
    print_table(title, columns, rows, numbers=range(1, 6))
    print(f"result: {folder / 'sweep.json'}   figures: {folder}/tradeoff-*.png")
