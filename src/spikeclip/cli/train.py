"""`spikeclip train`: from a recipe to a saved model and its result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Train a model from a recipe or a folder of pictures.

A recipe, a YAML file or the name of a built-in one, holds the model, the data, the teacher and the stages; its
relative paths start at the working directory. `spikeclip train --list` shows the built-in recipes. key=value changes
a setting for this run; dots go down; a number or its kind chooses a stage, * all of them, null removes one.
`spikeclip train --keys` lists every setting with its default and range. Ctrl-C writes a checkpoint that --resume
continues from.

A folder with a folder of pictures for each class, or train/, val/ and test/ with such folders, needs no recipe:
batches, epochs and validation are sized to it, the plan is shown, and the ReLU twin is trained after the network."""
EXAMPLES = """Examples:

\b
  spikeclip train mine.yaml
  spikeclip train cifar10 seed=1 stages.finetune.epochs=3 --out runs/quick
  spikeclip train cifar10 model.neuron=relu --out runs/cifar10-relu    (the ANN twin)
  spikeclip train cifar10 --resume
  spikeclip train ./pictures                                   (pictures/cat/1.jpg, pictures/dog/1.jpg, ...)
  spikeclip train ./pictures teacher.path=TABLE.npz --no-twin --out runs/mine
  spikeclip train --list
  spikeclip train --keys"""


def _print_list(wanted: bool) -> None:
    if wanted:
        from spikeclip.train.recipe import built_in_recipes

        recipes = built_in_recipes()
        width = max(map(len, recipes))
        for name, purpose in recipes.items():
            print(f"{name:{width}}  {purpose}")
        raise typer.Exit


def _print_keys(wanted: bool) -> None:
    if wanted:
        from spikeclip.cli.keys import keys_text

        print(keys_text())
        raise typer.Exit


def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE|FOLDER", help="The recipe, or your pictures.", show_default=False),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="key=value", help="Settings to change.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run.", show_default="runs/<name of the recipe or folder>"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove what an earlier run wrote in --out.")
    ] = False,
    twin: Annotated[
        bool, typer.Option("--twin/--no-twin", help="FOLDER: train the ReLU twin too, in OUT-relu.")
    ] = True,
    names: Annotated[
        bool,
        typer.Option(
            "--list", callback=_print_list, is_eager=True, help="List the built-in recipes and exit."
        ),
    ] = False,
    keys: Annotated[
        bool, typer.Option("--keys", callback=_print_keys, is_eager=True, help="List all settings and exit.")
    ] = False,
) -> None:
    """Run the recipe."""
    from spikeclip.errors import InputError

    if resume and overwrite:
        raise InputError("--resume continues a run and --overwrite removes it: give one of them")
    from spikeclip.train.recipe import find_recipe, load_recipe

    found = find_recipe(recipe)
    if found.is_dir():
        from spikeclip.cli.own import train_on_folder

        train_on_folder(found, changes or [], out, resume=resume, overwrite=overwrite, twin=twin)
        return
    from spikeclip.train.recipe_checks import check_files

    config = load_recipe(found, changes or [])  # before PyTorch: a mistake in it shows at once
    check_files(config)
    from spikeclip.train.run import train_run

    folder = out or Path("runs") / found.stem
    result = train_run(config, folder, resume=resume, overwrite=overwrite)
    from accelerate import PartialState

    from spikeclip.cli.tables import print_record

    if PartialState().is_main_process:
        if result["test"]:
            print_record(result["test"])
        print(f"model: {folder / 'model'}   result: {folder / 'results.json'}")
