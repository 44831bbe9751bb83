"""`spikeclip demo`: the whole road on the built-in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Train, evaluate and show a model on the built-in pictures.

Nothing is downloaded. It trains a small teacher, then a spiking student and its ANN twin. It takes
minutes on two CPU cores and leaves the models, the results and a figure of predictions in --out."""
EXAMPLES = """Examples:

\b
  spikeclip demo
  spikeclip demo --out /tmp/demo
  spikeclip info runs/demo/model"""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for models, results and figure.")] = Path("runs/demo"),
) -> None:
    """Run the demonstration."""
    from spikeclip.train.demo import run_demo

    run_demo(out)
