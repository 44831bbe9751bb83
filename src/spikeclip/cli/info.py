"""`spikeclip info`: what a model is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    from spikeclip.evaluate.describe import describe_layers

    facts, graphs = _described(model, layers)
    name, counts = facts.pop("name"), "parameters" if "parameters" in facts else "stored"
    numbers = facts.pop(counts)
    rows = [(key.replace("_", " "), _shown(value)) for key, value in facts.items()]
    title = counts if counts == "parameters" else "numbers stored"
    rows += [(f"{title}, {part}", f"{count:,}") for part, count in numbers.items()]
    print_table(f"{name} ({model})" if model != name else model, ("", ""), rows, numbers=(1,))
    if layers:
        shown = [
            (layer["name"], layer["kind"], " x ".join(map(str, layer["output"])), f"{layer['parameters']:,}")
            for layer in describe_layers(graphs)
        ]
        print_table(
            "operations for one picture and one text, BatchNorm folded in",
            ("operation", "kind", "output", "parameters"),
            shown,
            numbers=(3,),
        )


def _described(model: str, layers: bool) -> tuple[dict[str, Any], Any]:
    """Facts, and the graphs where the layers are wanted; from a model's graphs where PyTorch is not installed."""
    from importlib.util import find_spec

    from spikeclip.config import PRESETS
    from spikeclip.evaluate.describe import describe_graphs, describe_model
    from spikeclip.graph.saved import lowered
    from spikeclip.pretrained.resolve import has_graphs, resolve
    from spikeclip.pretrained.shipped import shipped

    new = model in PRESETS and model not in shipped()
    if not new and find_spec("torch") is None and has_graphs(folder := resolve(model).folder):
        return describe_graphs(folder)
    from spikeclip.model import create_model
    from spikeclip.open import from_pretrained

    opened = create_model(model) if new else from_pretrained(model)
    return describe_model(opened), lowered(opened) if layers else None


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
