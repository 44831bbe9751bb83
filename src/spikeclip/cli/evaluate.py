"""`spikeclip evaluate`: what models recognise, on one or several data sets, and how much one keeps of another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeclip.cli.options import Renames, Templates, renames

if TYPE_CHECKING:
    from spikeclip.data.pictures import Pictures

HELP = """Evaluate models on data sets.

\b
--task zeroshot_classification  pictures among the class names (the default)
       zeroshot_retrieval       captions find their picture, pictures one of their captions: recall at 1, 5, 10
       linear_probe             logistic regression on the training split's embeddings
       few_shot                 the same on 1, 2, 4, 8, 16 pictures of each class
       expanded_labels          more and more other names beside the class names
       unseen_labels            more and more class names replaced by near ones: horse by zebra, ship by boat
       open_vocabulary          classes that training saw, and those it withheld (data.withhold of the recipe)
       corruption               noise, blur and JPEG in five strengths

The result is a table and a JSON record in CLIP_benchmark's form; tasks with curves draw figures beside it. Several
models, data sets or tasks make one table and one file, with what each model gains or loses against the first: give
the model before fine-tuning first to see what is kept of its zero-shot transfer; of three models or more that is
drawn too. MODEL is a saved model, the folder of a run, a name on the Hugging Face hub, or a teacher (CLIP, SigLIP).
Class names come from the data; --prompts takes names and templates of a known data set instead, in their order."""
EXAMPLES = """Examples:

\b
  spikeclip evaluate runs/cifar10 --data cifar10
  spikeclip evaluate runs/shapes --data shapes --split heldout --out heldout.json
  spikeclip evaluate runs/cifar10 --data ./mine --prompts cifar10
  spikeclip evaluate runs/cifar10 --data cifar10 --template "a {c}" --rename automobile=car
  spikeclip evaluate runs/flickr --data flickr8k --task zeroshot_retrieval
  spikeclip evaluate openai/clip-vit-base-patch32 --data cifar10        (a teacher)
  spikeclip evaluate runs/cifar10 runs/cifar10-relu --data cifar10 --task linear_probe --task corruption
  spikeclip evaluate runs/aligned runs/tuned runs/no-kl --data cifar10 --data cifar100    (retention)"""
VAL_FRACTION = 0.1
"""Of a training split without a validation split beside it, to choose a probe's penalty by."""


def evaluate(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="Models or teachers.", show_default=False)
    ],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="SOURCE",
            help="Known data set, folder, or data set on the hub; repeatable.",
            show_default=False,
        ),
    ],
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "test",
    task: Annotated[
        list[str] | None,
        typer.Option(help="See above; repeatable.", show_default="zeroshot_classification"),
    ] = None,
    train_split: Annotated[str, typer.Option(help="Split that probes learn from.")] = "train",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of shots, or of names.")] = 5,
    distractors: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Names to add: a known data set's, or a .txt file's, one a line.",
            show_default="common nouns",
        ),
    ] = None,
    near: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Names to replace classes by: JSON {"horse": ["zebra"]}.'),
    ] = None,
    withheld: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Classes not trained on.", show_default="those of the recipe"),
    ] = None,
    template: Templates = None,
    prompts: Annotated[
        str | None, typer.Option(help="Class names and templates: a known data set's, or a .json file.")
    ] = None,
    rename: Renames = None,
    limit: Annotated[int | None, typer.Option(help="Use only this many pictures of a split.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 256,
    bf16: Annotated[bool, typer.Option("--bf16", help="Multiply in bfloat16.")] = False,
    cache: Annotated[str, typer.Option(help="Folder of decoded pictures.")] = "~/.cache/spikeclip",
    out: Annotated[Path, typer.Option(help="Where the record goes.")] = Path("results.json"),
) -> None:
    """Evaluate models."""
    from spikeclip.errors import InputError, unknown

    tasks, names = task or ["zeroshot_classification"], renames(rename or [])
    if prompts and (template or names):
        raise InputError("--prompts brings class names and templates: leave out --template and --rename")
    if prompts and len(data) > 1:
        raise InputError("--prompts names the classes of one data set: evaluate the others by themselves")
    if out.is_dir():
        raise InputError(f"{out} is a folder; --out names the file of the result")
    from spikeclip.cli.tables import print_comparison, print_record
    from spikeclip.config import ImageFormat
    from spikeclip.data.prompts import load_prompts, with_classnames
    from spikeclip.data.sources import Splits, load_pictures, load_training, rename_classes
    from spikeclip.evaluate.compare import compare_records, curves_figure, retention_figure
    from spikeclip.evaluate.label_sets import load_distractors, load_near_names
    from spikeclip.evaluate.open import event_frames, image_size, open_model
    from spikeclip.evaluate.record import evaluate_tasks
    from spikeclip.evaluate.tasks import LEARNING, TASKS
    from spikeclip.records import write_record

    for name in tasks:
        if name not in TASKS:
            raise unknown("task", name, TASKS)
    others, replacing = load_distractors(distractors), load_near_names(near)
    templates = load_prompts(prompts).templates if prompts else template or ["a photo of a {c}."]

    def named(parts: list[Pictures]) -> list[Pictures]:
        if prompts:
            return [with_classnames(part, prompts) for part in parts]
        return rename_classes(parts, names)

    def load_all(
        size: int, frames: int | None
    ) -> tuple[list[Pictures], list[tuple[Pictures, Pictures] | None]]:
        format = ImageFormat(size, frames)
        tests = named([load_pictures(source, split, format, cache=cache, limit=limit) for source in data])
        if not set(tasks) & set(LEARNING):
            return tests, [None] * len(data)
        splits = Splits(VAL_FRACTION, train=train_split, test=split)
        pairs = [load_training(source, format, splits, cache=cache, limit=limit) for source in data]
        learn, held = (named(list(parts)) for parts in zip(*pairs, strict=True))
        return tests, list(zip(learn, held, strict=True))

    records = []
    for model in models:
        opened = open_model(model)
        for pictures, training in zip(*load_all(image_size(opened), event_frames(opened)), strict=True):
            records += evaluate_tasks(
                opened,
                pictures,
                tasks,
                templates=templates,
                training=training,
                seeds=seeds,
                distractors=others,
                near=replacing,
                withheld=[part.strip() for part in withheld.split(",")] if withheld else None,
                pretrained=model,
                batch_size=batch_size,
                bf16=bf16,
                progress=True,
            )
    if len(records) == 1:
        write_record(records[0], out)
        print_record(records[0])
    else:
        rows = compare_records(records)
        write_record({"records": records, "comparison": rows}, out)
        print_comparison(rows)
        if len(models) > 2 and len(data) > 1 and "zeroshot_classification" in tasks:
            figure = out.with_name(f"{out.stem}-retention.png")
            retention_figure(rows).savefig(figure)
            print(f"figure: {figure}")
    for name in TASKS:
        drawn = [record for record in records if record["task"] == name and record["curves"]]
        if drawn:
            figure = out.with_name(f"{out.stem}-{name}.png")
            curves_figure(drawn).savefig(figure)
            print(f"figure: {figure}")
    print(f"result: {out}")
