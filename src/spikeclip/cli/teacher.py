"""`spikeclip teacher`: train a small CLIP on a data set, for a student to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Train a small CLIP to teach a spiking student.

DATA is captioned or labelled pictures: `shapes` (built in), a folder of parquet or of pictures, or a Hugging
Face data set. The teacher is saved in Hugging Face's CLIP format; a recipe names it as teacher.path."""
EXAMPLES = """Examples:

\b
  spikeclip teacher shapes --out runs/teacher
  spikeclip teacher shapes --out runs/teacher-small --width 128 --layers 2 --epochs 5
  spikeclip evaluate runs/teacher --data shapes"""


def teacher(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Pictures to learn from.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the teacher.", show_default=False)],
    split: Annotated[str, typer.Option(help="Split to learn from.")] = "train",
    val_fraction: Annotated[
        float,
        typer.Option(min=0.0, max=0.9, help="Share kept for validation where the data has no split for it."),
    ] = 0.1,
    limit: Annotated[int | None, typer.Option(help="Use only this many pictures.")] = None,
    image_size: Annotated[int, typer.Option(help="Side of the pictures, pixels.")] = 32,
    width: Annotated[int | None, typer.Option(help="Channels of both transformers.")] = None,
    layers: Annotated[int | None, typer.Option(help="Layers of both transformers.")] = None,
    patch_size: Annotated[int | None, typer.Option(help="Side of a patch, pixels.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, split and order.")] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Entries of the tokenizer.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a teacher in --out.")] = False,
) -> None:
    """Train a teacher."""
    from spikeclip.errors import InputError

    if (out / "config.json").exists() and not overwrite:
        raise InputError(f"{out} already holds a model: --overwrite replaces it")
    from spikeclip.cli.tables import print_table
    from spikeclip.data import load_training
    from spikeclip.train.teacher import train_teacher

    pictures, validation = load_training(
        data, image_size, val_fraction=val_fraction, seed=seed or 0, train_split=split, limit=limit
    )
    given = {
        "width": width,
        "layers": layers,
        "patch_size": patch_size,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "vocab_size": vocab_size,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    result = train_teacher(pictures, validation, out, **settings)
    rows = [(name, value) for name, value in result.items() if isinstance(value, (int, float, str))]
    print_table(f"teacher: {out}", ("", ""), rows, numbers=(1,))
