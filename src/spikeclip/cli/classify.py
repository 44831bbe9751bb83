"""`spikeclip classify`: which of your labels fits a picture."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from spikeclip.cli.options import Engine, Templates, known_engine
from spikeclip.defaults import MODEL

HELP = """Say which of your labels fits a picture best.

Without --model it is spikeclip-lite0, which comes with the package and knows common words.
A model that learned from a teacher takes any words as labels; one that was trained without knows the words of its
class names alone, and a warning says so. PICTURE is a file, a folder (with its subfolders) or a quoted pattern.
Formats: JPEG, PNG, WebP, GIF, BMP, TIFF, PPM and AVIF, up to 150 million pixels
(PPM 75, progressive JPEG 60, TIFF 35, WebP and AVIF 30).
A picture that cannot be read is named, counted and skipped; the exit code is 1 only when none could be
read. Scores are a softmax over the labels."""
EXAMPLES = """Examples:

\b
  spikeclip classify cat.jpg --labels "cat,dog,truck"
  spikeclip classify cat.jpg --model runs/cifar10 --labels "cat,dog,truck"
  spikeclip classify photos/ "more/*.png" --model runs/cifar10 --labels cat,dog --top 1
  spikeclip classify cat.jpg --model runs/cifar10 --labels names.txt --top 1
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
        str,
        typer.Option(metavar="MODEL", help="Shipped name, saved model, run, hub name or teacher."),
    ] = MODEL,
    labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Labels, or a .txt file of one a line.", show_default=False),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Labels and templates of a known data set, or of a .json file.")
    ] = None,
    template: Templates = None,
    top: Annotated[int, typer.Option(min=1, help="Labels to show.")] = 5,
    engine: Engine = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Classify pictures."""
    from spikeclip.errors import InputError, printable

    if (labels is None) == (prompts is None):
        both = "labels from two places" if labels else "no labels to choose from"
        raise InputError(f'{both}: give --labels "cat,dog", or --prompts with a known data set')
    precision = known_engine(engine)
    from spikeclip.data.readers.listing import listed
    from spikeclip.encode.classify import check_labels, classify_files
    from spikeclip.encode.pictures import find_pictures

    names, templates = _labels(labels, prompts)
    check_labels(names)
    files, missing, others = find_pictures(pictures)
    if others:
        reasons = [f"{printable(str(file))} ({why})" for file, why in others.items()]
        print(f"passed over {len(others)}: {listed(reasons)}", file=sys.stderr)
    for name, reason in missing.items():
        _skip(name, reason, alone=len(pictures) == 1)
    if not files:
        raise InputError(f"none of the {len(pictures)} pictures could be found")
    from spikeclip.open import open_encoder

    encoder = open_encoder(model, precision)
    results = {}
    single = len(pictures) == 1 and not missing and files == [Path(os.path.expanduser(pictures[0]))]
    for file, ranked in classify_files(encoder, files, names, template or templates, top):
        if isinstance(ranked, str):
            _skip(str(file), ranked, alone=len(files) == 1 and not missing)
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


def _labels(labels: str | None, prompts: str | None) -> tuple[list[str], list[str] | None]:
    """Return the labels that were given, as such or in a file, or those of `prompts`, and their templates.

    None stands for the model's templates.
    """
    if prompts is None:
        return _given(labels or ""), None
    from spikeclip.data.prompts import load_prompts

    known = load_prompts(prompts)
    return known.classnames, known.templates


def _given(labels: str) -> list[str]:
    from spikeclip.errors import InputError
    from spikeclip.files import read_lines

    labels = labels.strip()
    if os.path.isfile(os.path.expanduser(labels)):  # which takes a text of any length
        return read_lines(Path(labels))
    names = [label.strip() for label in labels.split(",")] if labels else []
    if file := next((name for name in names if name.lower().endswith(".txt")), None):
        raise InputError(
            f"no such file of labels: {file}"
            if len(names) == 1
            else f"label {file!r}: a file of labels stands alone"
        )
    return names


def _skip(name: str, reason: str, alone: bool) -> None:
    from spikeclip.errors import InputError, printable

    if alone:
        raise InputError(f"{printable(name)}: {reason}")
    print(f"skipped {printable(name)}: {reason}", file=sys.stderr)


def _show(name: str, ranked: list[dict]) -> None:
    from spikeclip.errors import printable

    print(printable(name))
    for entry in ranked:
        print(f"  {entry['score']:7.2%}  {entry['label']}")
