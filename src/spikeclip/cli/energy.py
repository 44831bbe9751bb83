"""`spikeclip energy`: what a model costs, level by level, against ordinary networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from spikeclip.cli.options import Renames, Templates, renames

HELP = """Account for the energy of a model on a data set.

One pass over the pictures and the prompts of their classes measures how often every layer fires; a ledger turns
operations, rates and constants into joules at several levels, for the spiking network and for the same network
as fp32, int8 and quantised ordinary ones. --out gets energy.json and report.html. MODEL is a saved model or the
folder of a run."""
EXAMPLES = """Examples:

\b
  spikeclip energy runs/cifar10 --data data/cifar10 --template "a {c}" --rename automobile=car
  spikeclip energy runs/cifar10 --data data/cifar10 --twin runs/cifar10-relu --measure
  spikeclip energy runs/shapes --data shapes --teacher runs/teacher
  spikeclip energy runs/shapes --data shapes --conventions mine.yaml --into results.json

--conventions names a YAML file with the constants to change; the ones in force are in energy.json and in the
report. --teacher names a folder or a model on the hub, whose matrix products are counted. --into adds `energy` and
`spikes` to the record of `spikeclip evaluate`, or of a run, on the same pictures."""


def energy(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Saved model or run.", show_default=False)],
    data: Annotated[
        str,
        typer.Option(
            metavar="SOURCE", help="Known data set, folder, or data set on the hub.", show_default=False
        ),
    ],
    split: Annotated[str, typer.Option(help="Split to run on.")] = "test",
    template: Templates = None,
    rename: Renames = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many pictures.")] = None,
    precision: Annotated[str, typer.Option(metavar="fp32|int8", help="Weights of the run.")] = "fp32",
    conventions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML with constants to change.")
    ] = None,
    twin: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Run of the ReLU twin, for its accuracy.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Its teacher, a CLIP or SigLIP, to count and compare with."),
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure time and joules too (L4).")] = False,
    into: Annotated[Path | None, typer.Option(metavar="FILE", help="Record to add the result to.")] = None,
    cache: Annotated[str, typer.Option(help="Folder of decoded pictures.")] = "~/.cache/spikeclip",
    out: Annotated[Path, typer.Option(help="Folder of energy.json and report.html.")] = Path("energy"),
) -> None:
    """Account for a model."""
    from spikeclip.errors import InputError, unknown

    folder, names = Path(model).expanduser(), renames(rename or [])
    if not folder.is_dir():
        raise InputError(f"no such folder: {model}")
    if precision not in ("fp32", "int8"):
        raise unknown("precision", precision, ("fp32", "int8"))
    if out.is_file():
        raise InputError(f"{out} is a file; --out names a folder")
    from spikeclip.energy.account import account, measured, merged, teacher_cost
    from spikeclip.energy.conventions import load_conventions
    from spikeclip.records import read_record, write_record

    assumed = load_conventions(conventions)
    record = read_record(into) if into else None
    twin_test = (read_record(twin / "results.json").get("test") or {}) if twin else None
    if twin_test is not None and twin_test.get("provenance", {}).get("data", {}).get("split") != split:
        raise InputError(f"{twin} has no result on the split {split!r}: --twin names a finished run")
    from spikeclip.data.sources import load_pictures
    from spikeclip.data.tokenizer import Tokenizer
    from spikeclip.energy.report import write_report
    from spikeclip.graph.saved import open_graphs
    from spikeclip.pretrained.resolve import model_folder

    saved = model_folder(folder)
    graphs = open_graphs(saved)
    image = graphs.image.input
    pictures = load_pictures(data, split, image.shape[0], cache, limit, names, image.event_frames)
    templates = template or ["a photo of a {c}."]
    if teacher:
        assumed = dataclasses.replace(assumed, teacher=teacher_cost(teacher, pictures, templates))
    found = account(
        graphs,
        Tokenizer.load(saved),
        pictures,
        assumed,
        templates=templates,
        precision=precision,  # type: ignore[arg-type]
    )
    found |= {"model": model, "twin": None}
    if twin_test:
        counted = twin_test["provenance"]["data"]["pictures"]
        found["twin"] = {"run": str(twin), "pictures": counted, **twin_test["metrics"]}
    if measure:
        found["energy"]["measured"] = measured(graphs.image, pictures.images, precision)  # type: ignore[arg-type]
    write_record(found, out / "energy.json")
    log, title = folder / "metrics.jsonl", f"Energy of {model}"
    write_report(found, out / "report.html", graphs.image, pictures.images[0], log, title)
    if record is not None and into is not None:
        write_record(merged(record, found), into)
    _show(found)
    print(f"ledger: {out / 'energy.json'}   report: {out / 'report.html'}")


def _show(found: dict) -> None:
    from spikeclip.cli.tables import print_table
    from spikeclip.energy.words import amount, amounts, summary

    energy = found["energy"]
    levels = energy["levels"]
    rows = [(name, *amounts(energy, name)) for name in energy["total"]["joules"]]
    title = "energy of one picture with its share of the text tower, ± 95 % confidence interval"
    print_table(title, ("network", *levels), rows, numbers=range(1, len(levels) + 1))
    image = energy["image"]["ledger"]
    network = next(reversed(image))
    shown = [
        (
            row["op"],
            row["kind"],
            row["what"],
            f"{row['count']:,.0f}",
            "" if row["rate"] is None else f"{row['rate']:.4f}",
            f"{row['pJ']:.3g}",
            amount(row["joules"]),
        )
        for row in image[network]["L2 tiled"]
    ]
    total = (energy["image"][what][network]["L2 tiled"] for what in ("joules", "intervals"))
    shown.append(("total", "", "", "", "", "", amount(*total)))
    columns = ("operation", "kind", "what", "count", "rate", "pJ each", "energy")
    print_table(f"ledger of the image tower at L2 tiled, {network}", columns, shown, numbers=(3, 4, 5, 6))
    for line in summary(found):
        print(f"- {line}")
