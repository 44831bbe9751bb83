"""`spikeclip demo`: all steps on the built-in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Train, evaluate and show a model on the built-in pictures.

Nothing is downloaded. It trains a small teacher, then a spiking student and its ReLU twin by the same
recipe, and tests all three on pictures of kinds that no training picture showed. It takes minutes on two
CPU cores and leaves the models, the results and a figure of predictions in --out; an earlier demo there is
replaced."""
EXAMPLES = """Examples:

\b
  spikeclip demo
  spikeclip demo --out /tmp/demo
  spikeclip info runs/demo/model"""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for models, results and figure.")] = Path("runs/demo"),
) -> None:
    """Run the demonstration."""
    from spikeclip.cli.tables import print_networks
    from spikeclip.studies.demo import run_demo
    from spikeclip.studies.photographs import name_photographs

    results = run_demo(out)
    print_networks("colour-shape pairs, recognised among all 64 names", results["networks"])
    print(f"model: {out / 'model'}   result: {out / 'results.json'}   picture: {out / 'predictions.png'}")
    print(f"energy, level by level: {out / 'energy.html'}")
    print(f"try: spikeclip classify PICTURE --model {out / 'model'} --labels 'red star,blue ring'")
    print("\nand the model that comes with the package, on photographs, without training:")
    for seen in name_photographs():
        print(f"{seen.file.name:20} {seen.label:20} {seen.score:4.0%} {seen.seconds:6.2f} s")
