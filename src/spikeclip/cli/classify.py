"""`spikeclip classify`: which of your labels fits a picture."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

HELP = """Say which of your labels fits a picture best.

The labels are any words you like. PICTURE is a file, a folder (with its subfolders) or a quoted pattern.
A picture that cannot be read is named, counted and skipped; the exit code is 1 only when none could be
read. Scores are a softmax over the labels."""
EXAMPLES = """Examples:

\b
  spikeclip classify cat.jpg --model runs/cifar10 --labels "cat,dog,truck"
  spikeclip classify photos/ "more/*.png" --model runs/cifar10 --labels cat,dog --top 1
  spikeclip classify cat.jpg --model runs/cifar10 --prompts cifar10
  spikeclip classify cat.jpg --model runs/cifar10 --labels cat,dog --json

--json prints [{"score", "label"}, ...] for a single file, as Hugging Face's pipeline does, and otherwise one
object {"path of the picture": [{"score", "label"}, ...], ...}."""


def classify(
    pictures: Annotated[
        list[str],
        typer.Argument(metavar="PICTURE", help="Files, folders or patterns.", show_default=False),
    ],
    model: Annotated[
        str, typer.Option(metavar="DIR", help="Saved model, run or teacher.", show_default=False)
    ],
    labels: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Labels, separated by commas.", show_default=False)
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Labels and templates of a known data set, or of a .json file.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help="Prompt with {c} for the label; repeatable.", show_default="a photo of a {c}."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Labels to show.")] = 5,
    engine: Annotated[
        str | None,
        typer.Option(metavar="int8|fp32", help="Run on the event-driven engine (see `spikeclip lower`)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Classify pictures."""
    from spikeclip.errors import InputError

    if (labels is None) == (prompts is None):
        raise InputError(
            'no labels to choose from: give --labels "cat,dog", or --prompts with a known data set'
        )
    from spikeclip.data.prompts import load_prompts

    templates = template or ["a photo of a {c}."]
    if prompts is not None:
        known = load_prompts(prompts)
        names, templates = known.classnames, template or known.templates
    else:
        names = [label.strip() for label in labels.split(",")] if labels and labels.strip() else []
    from spikeclip.encode.pictures import check_labels, find_pictures

    check_labels(names)
    files, missing = find_pictures(pictures)
    for name in missing:
        _skip(name, "no such picture", alone=len(pictures) == 1)
    if not files:
        raise InputError(f"none of the {len(pictures)} pictures could be found")

    results = {}
    single = len(pictures) == 1 and not missing and files == [Path(pictures[0]).expanduser()]
    for file, ranked in _classified(model, engine, files, names, templates, top):
        if ranked is None:
            _skip(str(file), "not a picture that can be read", alone=len(files) == 1 and not missing)
        else:
            results[str(file)] = ranked
            if not as_json:
                _show(str(file), ranked)
    skipped = len(files) - len(results) + len(missing)
    if not results:
        raise InputError(f"none of the {skipped} pictures could be read")
    if as_json:
        from spikeclip.records import json_text

        print(json_text(next(iter(results.values())) if single else results))
    if skipped:
        print(f"{len(results)} pictures classified, {skipped} skipped", file=sys.stderr)


def _classified(
    model: str, engine: str | None, files: list[Path], labels: list[str], templates: list[str], top: int
) -> Iterator[tuple[Path, list[dict] | None]]:
    if engine is None:
        from spikeclip.evaluate.classify import classify_files
        from spikeclip.evaluate.open import open_model

        return classify_files(open_model(model), files, labels, templates, top)
    from spikeclip.encode.pictures import rank_files
    from spikeclip.engine import Runtime
    from spikeclip.pretrained.resolve import model_folder

    runtime = Runtime.from_pretrained(model_folder(Path(model).expanduser()), precision=engine)  # type: ignore[arg-type]
    classes_KD = runtime.class_embeddings(labels, templates)
    return rank_files(files, runtime.image_size, lambda images: runtime.rank(images, classes_KD, labels, top))


def _skip(name: str, reason: str, alone: bool) -> None:
    from spikeclip.errors import InputError

    if alone:
        raise InputError(f"{name}: {reason}")
    print(f"skipped {name}: {reason}", file=sys.stderr)


def _show(name: str, ranked: list[dict]) -> None:
    print(name)
    for entry in ranked:
        print(f"  {entry['score']:7.2%}  {entry['label']}")
