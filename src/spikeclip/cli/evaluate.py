"""`spikeclip evaluate`: what models recognise, on one or several data sets, and how much one keeps of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from spikeclip.cli.options import Cache, Engine, Renames, Templates, known_engine, renames, with_options
from spikeclip.defaults import CACHE

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


class EvaluateOptions(NamedTuple):
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="Models or teachers.", show_default=False)
    ]
    data: Annotated[
        list[str],
        typer.Option(
            metavar="SOURCE",
            help="Known data set, folder, or data set on the hub; repeatable.",
            show_default=False,
        ),
    ]
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "test"
    task: Annotated[
        list[str] | None,
        typer.Option(help="See above; repeatable.", show_default="zeroshot_classification"),
    ] = None
    train_split: Annotated[str, typer.Option(help="Split that probes learn from.")] = "train"
    seeds: Annotated[int, typer.Option(min=1, help="Draws of shots, or of names.")] = 5
    distractors: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Names to add: a known data set's, or a .txt file's, one a line.",
            show_default="common nouns",
        ),
    ] = None
    near: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Names to replace classes by: JSON {"horse": ["zebra"]}.'),
    ] = None
    withheld: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Classes not trained on.", show_default="those of the recipe"),
    ] = None
    template: Templates = None
    prompts: Annotated[
        str | None, typer.Option(help="Class names and templates: a known data set's, or a .json file.")
    ] = None
    rename: Renames = None
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many pictures of a split.")] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 256
    engine: Engine = None
    bf16: Annotated[bool, typer.Option("--bf16", help="Multiply in bfloat16.")] = False
    cache: Cache = CACHE
    out: Annotated[Path, typer.Option(help="Where the record goes.")] = Path("results.json")


@with_options(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Evaluate models."""
    renamed, engine = renames(options.rename), known_engine(options.engine)
    from spikeclip.cli.tables import print_comparison, print_record
    from spikeclip.evaluate.label_sets import load_distractors, load_near_names
    from spikeclip.evaluate.models import Evaluation, check_out, draw_results, evaluate_models, save_results
    from spikeclip.evaluate.tasks import TaskSettings

    withheld = options.withheld.split(",") if options.withheld else None
    settings = TaskSettings(
        templates=options.template,
        seeds=options.seeds,
        distractors=load_distractors(options.distractors),
        near=load_near_names(options.near),
        withheld=[part.strip() for part in withheld] if withheld else None,
    )
    evaluation = Evaluation(
        models=options.models,
        data=options.data,
        split=options.split,
        tasks=options.task or Evaluation.tasks,
        settings=settings,
        train_split=options.train_split,
        prompts=options.prompts,
        rename=renamed,
        limit=options.limit,
        batch_size=options.batch_size,
        engine=engine,
        bf16=options.bf16,
        cache=options.cache,
    )
    check_out(evaluation, options.out)
    records = evaluate_models(evaluation)
    rows = save_results(records, options.out)
    if rows:
        print_comparison(rows)
    else:
        print_record(records[0])
    for figure in draw_results(records, rows, options.out):
        print(f"figure: {figure}")
    print(f"result: {options.out}")
