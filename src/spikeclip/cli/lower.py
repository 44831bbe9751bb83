"""`spikeclip lower`: write the graphs that the engine runs."""

from __future__ import annotations

from typing import Annotated

import typer

HELP = """Write the graphs that the engine runs.

Machines without PyTorch need them. A graph is the trained tower as a short list of plain operations with BatchNorm
folded in: MODEL/graph holds image.json, text.json and their weights as safetensors. Run it again after training
on. MODEL is a saved model, the folder of a run, or a name on the Hugging Face hub, whose copy on this machine gets
the graphs."""
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
    from spikeclip.files import check_target
    from spikeclip.graph.saved import save_graphs
    from spikeclip.model import from_pretrained
    from spikeclip.pretrained.resolve import resolve

    found = resolve(model)
    if found.run:  # a model folder that is named itself may be a link
        check_target(found.folder)
    print(f"graphs: {save_graphs(from_pretrained(found.folder), found.folder)}")
