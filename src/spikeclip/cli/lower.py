"""`spikeclip lower`: write the graphs that the engine runs."""

from __future__ import annotations

from typing import Annotated

import typer

HELP = """Write the graphs of a saved model, for the engine and for machines without PyTorch.

A graph is the trained tower as a short list of plain operations with BatchNorm folded in: MODEL/graph holds
image.json, text.json and their weights as safetensors. Run it again after training on. MODEL is a saved model, the
folder of a run, or a name on the Hugging Face hub, whose copy on this machine gets the graphs."""
EXAMPLES = """Examples:

\b
  spikeclip lower runs/cifar10
  spikeclip lower runs/cifar10/model
  spikeclip classify cat.jpg --model runs/cifar10 --engine int8 --labels "cat,dog\""""


def lower(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Saved model, run or hub name.", show_default=False)
    ],
) -> None:
    """Write the graphs of a model."""
    from spikeclip.errors import InputError
    from spikeclip.graph.saved import save_graphs
    from spikeclip.model import from_pretrained
    from spikeclip.pretrained.resolve import resolve

    found = resolve(model)
    folder = found.folder
    if found.run and folder.is_symlink():
        raise InputError(f"{folder} is a symbolic link: name the folder that is to get the graphs itself")
    print(f"graphs: {save_graphs(from_pretrained(folder), folder)}")
