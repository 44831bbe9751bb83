"""`spikeclip interpolate`: weights between a network before fine-tuning and after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Save the weights between two models.

The two are one network before and after fine-tuning. Fine-tuning on one data set forgets others. A network whose
weights lie between BEFORE and AFTER keeps more of what BEFORE could do for a part of what AFTER gained, at no cost
when it runs (WiSE-FT, arXiv 2109.01903). Choose the share on a validation split."""
EXAMPLES = """Examples:

\b
  spikeclip interpolate runs/pretrain runs/cifar10 --share 0.5 --out runs/between
  spikeclip interpolate runs/pretrain runs/cifar10 --share 0.3 --out runs/nearer
  spikeclip evaluate runs/pretrain runs/nearer runs/between runs/cifar10 --data cifar10 --data cifar100"""


def interpolate(
    before: Annotated[
        str, typer.Argument(metavar="BEFORE", help="Saved model, run or hub name.", show_default=False)
    ],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The same, trained on.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the new model.", show_default=False)],
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="0 is BEFORE, 1 is AFTER.")] = 0.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model in --out.")] = False,
) -> None:
    """Save weights between two models."""
    from spikeclip.errors import InputError
    from spikeclip.files import check_free

    held = (out / "config.json").is_file()
    if held and not overwrite:
        raise InputError(f"{out} already holds a model: --overwrite replaces it")
    check_free(out, "model", held)
    from spikeclip.model import from_pretrained, interpolate
    from spikeclip.pretrained.resolve import resolve
    from spikeclip.provenance import find_recipe
    from spikeclip.records import read_record, write_record

    start, end = (resolve(source).folder for source in (before, after))
    interpolate(from_pretrained(start), from_pretrained(end), share).save_pretrained(out)
    recipe = find_recipe(end)
    if recipe is not None:  # which data the weights have seen
        write_record(read_record(recipe), out / "recipe.json")
    print(f"model: {out}")
