"""`spikeclip ablate`: a recipe with one thing changed at a time, over several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Train a recipe with one thing changed at a time.

Every value is trained with several seeds. The built-in axes are those of SpikeCLIP's paper and of distillation:
neuron, T, text_tower, alignment, KL, pretraining_data, distillation. --grid takes a YAML file of your own in their
place, {axis: {value: [changes as on the command line]}}. --out gets a run for each value and seed, ablation.json
and ablation.png: accuracy on the test split, which every run reads once at its end, with 95 % confidence intervals
over seeds, and the change against the recipe with the same seeds. To choose a setting rather than report one, add
data.test_split=null: accuracy is then that of the validation split. Run it again to continue: finished runs are
kept, an interrupted one goes on."""
EXAMPLES = """Examples:

\b
  spikeclip ablate recipes/shapes.yaml --axes KL,alignment
  spikeclip ablate recipes/cifar10.yaml stages.finetune.epochs=3 --seeds 0,1,2,3,4
  spikeclip ablate recipes/cifar10.yaml --grid mine.yaml --out runs/mine
  spikeclip ablate recipes/cifar10.yaml --report                                  (what is finished so far)"""


def ablate(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A YAML file or a built-in name.", show_default=False)
    ],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="key=value", help="Settings to change in all runs.", show_default=False),
    ] = None,
    axes: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Axes to vary.", show_default="all")
    ] = None,
    grid: Annotated[Path | None, typer.Option(metavar="FILE", help="YAML with axes of your own.")] = None,
    seeds: Annotated[str, typer.Option(metavar="A,B,...", help="Seeds of every value.")] = "0,1,2",
    report: Annotated[bool, typer.Option("--report", help="Train nothing; show what is finished.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs.", show_default="runs/<name of the recipe>-ablation"),
    ] = None,
) -> None:
    """Run the ablations."""
    from spikeclip.errors import InputError, Interrupted
    from spikeclip.studies.ablate import any_finished, load_axes, plan, run_ablation
    from spikeclip.studies.ablate import report as finished

    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise InputError(f"--seeds expects whole numbers separated by commas, got {seeds!r}") from None
    chosen = [name.strip() for name in axes.split(",")] if axes else []
    cells = plan(recipe, changes or [], load_axes(grid, chosen), numbers)
    folder = out or Path("runs") / f"{recipe.stem}-ablation"
    try:
        result = run_ablation(cells, folder, train=not report)
    except Interrupted:
        _show(finished(cells, folder))
        raise
    _show(result)
    if any_finished(result):
        print(f"result: {folder / 'ablation.json'}   figure: {folder / 'ablation.png'}")
    else:
        print(f"no run has finished in {folder}")


def _show(result: dict) -> None:
    from spikeclip.cli.tables import print_table

    def percent(value: float | None, interval: float | None, sign: str = "") -> str:
        if value is None:
            return "-"
        return f"{100 * value:{sign}.2f}" + ("" if interval is None else f" ± {100 * interval:.2f}")

    rows = [
        (
            row["axis"].replace("_", " "),
            row["value"],
            f"{sum(value is not None for value in row['runs'].values())} of {len(row['runs'])}",
            percent(row["mean"], row["interval"]),
            percent(row["change"], row["change_interval"], "+"),
            "-" if row["rate"] is None else f"{row['rate']:.3f}",
        )
        for row in result["rows"]
    ]
    columns = ("axis", "value", "seeds", "accuracy, %", "change", "spikes per neuron and step")
    print_table(f"{result['split']} accuracy, 95 % intervals over seeds", columns, rows, numbers=range(2, 6))
    for name, reason in result["failed"].items():
        print(f"failed: {name}: {reason}")
