"""`spikeclip energy`: what a model costs, level by level, against ordinary networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from spikeclip.cli.options import Cache, Renames, Templates, renames, with_options
from spikeclip.defaults import CACHE

HELP = """Account for the energy of a model on a data set.

One pass over the pictures and the prompts of their classes measures how often every layer fires; a ledger turns
operations, rates and constants into joules at several levels, for the spiking network and for the same network
as fp32, int8 and quantised ordinary ones. --out gets energy.json and report.html. MODEL is a saved model, the
folder of a run, or a name on the Hugging Face hub."""
EXAMPLES = """Examples:

\b
  spikeclip energy runs/cifar10 --data data/cifar10
  spikeclip energy runs/cifar10 --data data/cifar10 --twin runs/cifar10-relu --measure
  spikeclip energy runs/shapes --data shapes --teacher runs/teacher
  spikeclip energy runs/shapes --data shapes --conventions mine.yaml --into results.json

--conventions names a YAML file with the constants to change; the ones in force are in energy.json and in the
report. --teacher names a folder or a model on the hub, whose matrix products are counted. --into adds `energy` and
`spikes` to the record of `spikeclip evaluate`, or of a run, on the same pictures."""


class EnergyOptions(NamedTuple):
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Saved model, run or hub name.", show_default=False)
    ]
    data: Annotated[
        str,
        typer.Option(
            metavar="SOURCE", help="Known data set, folder, or data set on the hub.", show_default=False
        ),
    ]
    split: Annotated[str, typer.Option(help="Split to run on.")] = "test"
    template: Templates = None
    rename: Renames = None
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many pictures.")] = None
    precision: Annotated[str, typer.Option(metavar="fp32|int8", help="Weights of the run.")] = "fp32"
    conventions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML with constants to change.")
    ] = None
    twin: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Run of the ReLU twin, for its accuracy.")
    ] = None
    teacher: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Its teacher, a CLIP or SigLIP, to count and compare with."),
    ] = None
    measure: Annotated[bool, typer.Option("--measure", help="Measure time and joules too (L4).")] = False
    ledger: Annotated[bool, typer.Option("--ledger", help="Print every operation of the image tower.")] = (
        False
    )
    into: Annotated[Path | None, typer.Option(metavar="FILE", help="Record to add the result to.")] = None
    cache: Cache = CACHE
    out: Annotated[Path, typer.Option(help="Folder of energy.json and report.html.")] = Path("energy")


@with_options(EnergyOptions)
def energy(options: EnergyOptions) -> None:
    """Account for a model."""
    renamed = renames(options.rename)
    from spikeclip.energy.model import EnergySettings, account_for

    settings = EnergySettings(
        model=options.model,
        data=options.data,
        split=options.split,
        templates=options.template,
        rename=renamed,
        limit=options.limit,
        precision=options.precision,  # type: ignore[arg-type]
        conventions=options.conventions,
        twin=options.twin,
        teacher=options.teacher,
        measure=options.measure,
        cache=options.cache,
    )
    _show(account_for(settings, options.out, options.into), options.ledger)
    print(f"ledger: {options.out / 'energy.json'}   report: {options.out / 'report.html'}")


def _show(found: dict, ledger: bool) -> None:
    from spikeclip.cli.tables import print_table
    from spikeclip.energy.words import LEGEND, amounts, summary

    for line in summary(found, levels=False):
        print(f"- {line}")
    energy = found["energy"]
    levels = energy["levels"]
    rows = [(name, *amounts(energy, name)) for name in energy["total"]["joules"]]
    title = "energy of one picture with its share of the text tower, ± 95 % confidence interval"
    print()
    print_table(title, ("network", *levels), rows, numbers=range(1, len(levels) + 1))
    for level, meaning in LEGEND.items():
        print(f"  {level}: {meaning}")
    print()
    if ledger:
        _show_ledger(energy)


def _show_ledger(energy: dict) -> None:
    from spikeclip.cli.tables import print_table
    from spikeclip.energy.words import amount

    image = energy["image"]["ledger"]
    network = next(reversed(image))
    shown = [
        (
            row["op"],
            row["kind"],
            row["what"],
            f"{row['count']:,.0f}",
            "" if row["rate"] is None else f"{row['rate']:.2f}",
            f"{row['pJ']:.3g}",
            amount(row["joules"]),
        )
        for row in image[network]["L2 tiled"]
    ]
    total = (energy["image"][what][network]["L2 tiled"] for what in ("joules", "intervals"))
    shown.append(("total", "", "", "", "", "", amount(*total)))
    columns = ("operation", "kind", "what", "count", "rate", "pJ each", "energy")
    print_table(f"ledger of the image tower at L2 tiled, {network}", columns, shown, numbers=(3, 4, 5, 6))
