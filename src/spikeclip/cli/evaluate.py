"""`spikeclip evaluate`: zero-shot accuracy or retrieval of a model on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikeclip.cli.options import Renames, Templates, renames

HELP = """Evaluate a model zero-shot on a data set.

The result is a table, and a JSON record in CLIP_benchmark's form. MODEL is a saved model, the folder of a
run, a name on the Hugging Face hub, or a teacher (CLIP, SigLIP). Class names come from the data; --prompts
takes names and templates of a known data set instead, in their order."""
EXAMPLES = """Examples:

\b
  spikeclip evaluate runs/cifar10 --data cifar10
  spikeclip evaluate runs/shapes --data shapes --split heldout --out heldout.json
  spikeclip evaluate runs/cifar10 --data data/cifar10 --prompts cifar10
  spikeclip evaluate runs/cifar10 --data data/cifar10 --template "a {c}" --rename automobile=car
  spikeclip evaluate runs/flickr --data data/flickr8k --task zeroshot_retrieval
  spikeclip evaluate openai/clip-vit-base-patch32 --data uoft-cs/cifar10        (a teacher)"""


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model or teacher.", show_default=False)],
    data: Annotated[
        str,
        typer.Option(
            metavar="SOURCE", help="Known data set, folder, or data set on the hub.", show_default=False
        ),
    ],
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "test",
    task: Annotated[
        str, typer.Option(help="zeroshot_classification or zeroshot_retrieval.")
    ] = "zeroshot_classification",
    template: Templates = None,
    prompts: Annotated[
        str | None, typer.Option(help="Class names and templates: a known data set's, or a .json file.")
    ] = None,
    rename: Renames = None,
    limit: Annotated[int | None, typer.Option(help="Use only this many pictures.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 256,
    bf16: Annotated[bool, typer.Option("--bf16", help="Multiply in bfloat16.")] = False,
    cache: Annotated[str, typer.Option(help="Folder of decoded pictures.")] = "~/.cache/spikeclip",
    out: Annotated[Path, typer.Option(help="Where the record goes.")] = Path("results.json"),
) -> None:
    """Evaluate a model."""
    from spikeclip.errors import InputError, unknown

    names = renames(rename or [])
    if prompts and (template or names):
        raise InputError("--prompts brings class names and templates: leave out --template and --rename")
    if out.is_dir():
        raise InputError(f"{out} is a folder; --out names the file of the result")
    from spikeclip.cli.tables import print_record
    from spikeclip.data import load_pictures
    from spikeclip.evaluate.json_text import write_record
    from spikeclip.evaluate.open import event_frames, image_size, open_model
    from spikeclip.evaluate.record import TASKS, evaluate_model, with_prompts

    if task not in TASKS:
        raise unknown("task", task, TASKS)
    opened = open_model(model)
    frames = event_frames(opened)
    pictures = load_pictures(data, split, image_size(opened), cache, limit, names, frames)
    templates = template or ["a photo of a {c}."]
    if prompts:
        pictures, templates = with_prompts(pictures, prompts)
    record = evaluate_model(
        opened,
        pictures,
        task=task,
        templates=templates,
        pretrained=model,
        batch_size=batch_size,
        bf16=bf16,
        progress=True,
    )
    write_record(record, out)
    print_record(record)
    print(f"result: {out}")
