"""`spikeclip info`: what a model is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Show what a model is made of.

Towers, neuron, sizes and parameters. MODEL is a preset (spikeclip-tiny, spikeclip-base, spikeclip-paper),
a saved model, the folder of a run, or a name on the Hugging Face hub."""
EXAMPLES = """Examples:

\b
  spikeclip info spikeclip-tiny
  spikeclip info runs/cifar10
  spikeclip info spikeclip-base --layers"""


def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Preset or folder.", show_default=False)],
    layers: Annotated[
        bool, typer.Option("--layers", help="List every operation with its output shape.")
    ] = False,
) -> None:
    """Describe a model."""
    from spikeclip.config import PRESETS
    from spikeclip.errors import unknown

    if model not in PRESETS and not Path(model.strip()).expanduser().exists() and "/" not in model:
        raise unknown("preset or folder", model, PRESETS)
    from spikeclip.cli.tables import print_table
    from spikeclip.evaluate.describe import describe_layers, describe_model
    from spikeclip.model import create_model, from_pretrained

    opened = create_model(model) if model in PRESETS else from_pretrained(model)
    facts = describe_model(opened)
    parameters = facts.pop("parameters")
    rows = [(name.replace("_", " "), _shown(value)) for name, value in facts.items() if name != "name"]
    rows += [(f"parameters, {part}", f"{count:,}") for part, count in parameters.items()]
    print_table(
        f"{facts['name']} ({model})" if model != facts["name"] else model, ("", ""), rows, numbers=(1,)
    )
    if layers:
        shown = [
            (layer["name"], layer["kind"], " x ".join(map(str, layer["output"])), f"{layer['parameters']:,}")
            for layer in describe_layers(opened)
        ]
        print_table(
            "operations for one picture and one text, BatchNorm folded in",
            ("operation", "kind", "output", "parameters"),
            shown,
            numbers=(3,),
        )


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
