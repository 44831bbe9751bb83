"""`spikeclip data`: the data sets known by name, and what is in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeclip.cli.options import Cache, naming_split
from spikeclip.defaults import CACHE
from spikeclip.errors import printable

if TYPE_CHECKING:
    from spikeclip.data.locate import Source
    from spikeclip.data.pictures import Pictures

HELP = """List the data sets known by name, or show what is in one.

Wherever a command or a recipe takes a data set, it takes one of these names, a folder, or a data set on the
Hugging Face hub. A known name is read from $SPIKECLIP_DATA/NAME where that folder exists, and else from the
hub; it never means a folder of the working directory, which is written ./NAME."""
EXAMPLES = """Examples:

\b
  spikeclip data list
  spikeclip data show cifar10
  SPIKECLIP_DATA=data spikeclip data show flickr8k --split test --out flickr8k.png
  spikeclip data show data/mine --limit 200

A folder holds train.parquet, test.parquet (shards and a folder `data` are fine), train/CLASS/*.jpg, webdataset
shards train/0.tar with classnames.txt, or event recordings train.npz, of which each is shown summed over time."""

LIST_HELP = """List the data sets known by name.

Sizes are those that their sources publish; `spikeclip data show NAME` counts. Where there is no validation
split, a part of the training pictures, fixed by the seed, serves for selection."""
SHOW_HELP = """Show what is in a data set.

Its splits and their sizes, classes, prompt templates, the pictures of one split that cannot be read, and a
contact sheet of it."""

app = typer.Typer(rich_markup_mode=None)

_SHOWN = 20  # classes


@app.callback(invoke_without_command=True)
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list", help=LIST_HELP)
def list_datasets() -> None:
    """List the known data sets."""
    from spikeclip.cli.tables import print_table
    from spikeclip.data.known import FOLDER_VARIABLE, known_datasets
    from spikeclip.data.shapes import COUNTS, PAIRS

    rows = [("shapes", "Coloured shapes", "both", str(len(PAIRS)), *_sizes(COUNTS), "built in")]
    notes = []
    for known in known_datasets().values():
        sizes = {name: size for name, (_, size) in known.splits.items()}
        place = str(known.folder) if known.folder else f"hub: {known.hub}"
        rows.append(
            (
                known.name,
                known.title,
                known.task,
                f"{known.classes:,}" if known.classes else "-",
                *_sizes(sizes),
                place,
            )
        )
        notes += [f"- {known.name}: {known.note}"] if known.note else []
    columns = ("name", "data set", "task", "classes", "train", "val", "test", "read from")
    print_table("known data sets, with the sizes their sources publish", columns, rows, numbers=(3, 4, 5, 6))
    print("\n".join(notes))
    print(f"\n{FOLDER_VARIABLE} names a folder to look for them in, before the hub.")


@app.command("show", help=SHOW_HELP)
def show_dataset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Known name or folder.", show_default=False)],
    split: Annotated[str, typer.Option(help="Split to read and to draw.")] = "test",
    image_size: Annotated[
        int | None,
        typer.Option(min=1, help="Side of its pictures, pixels.", show_default="the source's, or 96"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only this many pictures.")] = None,
    classes: Annotated[bool, typer.Option("--classes", help="Print every class with its label.")] = False,
    cache: Cache = CACHE,
    out: Annotated[Path, typer.Option(help="Where the contact sheet goes.")] = Path("sheet.png"),
) -> None:
    """Show one data set."""
    from spikeclip.cli.tables import print_table
    from spikeclip.config import ImageFormat
    from spikeclip.data.locate import find_source
    from spikeclip.data.readers.events import SENSOR
    from spikeclip.data.sheet import contact_sheet
    from spikeclip.data.sources import load_pictures
    from spikeclip.errors import InputError
    from spikeclip.figures import check_drawing, save_figure

    if out.suffix != ".png":
        raise InputError(f"--out names the .png file of the contact sheet, got {out}")
    check_drawing()
    source = None if name == "shapes" else find_source(name)
    known = source.known if source else None
    events = source is not None and source.events
    usual = SENSOR if events else (known.pixels if known else None) or (96 if source else 32)
    format = ImageFormat(image_size or usual, 1 if events else None)
    with naming_split(split=split):
        pictures = load_pictures(name, split, format, cache=cache, limit=limit)
    title = f"{known.title} ({name})" if known else pictures.name
    print(f"{title}, {f'from {source.place}' if source else 'built in'}")
    if source is not None:
        columns = ("split", "pictures", "published" if known else "", "")
        print_table("", columns, _splits(source), numbers=(1, 2))
    for line in [*_about(pictures, source, classes), *([known.note] if known and known.note else [])]:
        print(line)
    sheet = contact_sheet(pictures, title=f"{title} {pictures.split}")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_figure(sheet, out)
    print(f"contact sheet: {out}")


def _sizes(sizes: Mapping[str, int]) -> list[str]:
    return [f"{sizes[name]:,}" if name in sizes else "-" for name in ("train", "val", "test")]


def _splits(source: Source) -> list[tuple[str, ...]]:
    """The splits as they are there, with the sizes their source publishes and what they serve for."""
    published = source.known.splits if source.known else {}
    ours = {source.find(name): name for name in published}
    validation = source.validation("train", "test")
    rows = []
    for split in sorted(source.splits, key=lambda name: (name == "test", name)):
        found, name = source.count(split), ours.get(split, split)
        size = f"{published[name][1]:,}" if name in published else "-" if published else ""
        use = "for selection" if split == validation else f"{name} here" if name != split else ""
        rows.append((split, "?" if found is None else f"{found:,}", size, use))
    return rows


def _about(pictures: Pictures, source: Source | None, every_class: bool) -> Iterator[str]:
    """Lines on the classes, templates, captions and unreadable pictures of a split."""
    names = pictures.classnames
    if pictures.labels is not None and every_class:
        yield from (f"  {label:4d}  {name}" for label, name in enumerate(names))
    elif pictures.labels is not None:
        more = f", and {len(names) - _SHOWN:,} more (--classes)" if len(names) > _SHOWN else ""
        yield f"classes: {len(names):,}: {', '.join(names[:_SHOWN])}{more}"
    if templates := _templates(pictures, source):
        yield f"templates: {len(templates)}: {'  '.join(templates)}"
    if pictures.captions is not None:
        yield f"captions: {sum(map(len, pictures.captions)):,}"
    what = "recordings" if source and source.events else "pictures"
    yield f"read: {len(pictures):,} {what} of {pictures.split}, {len(pictures.skipped):,} unreadable"
    yield from (f"  {printable(name)}: {why}" for name, why in pictures.skipped.items())
    if pictures.others:
        yield f"passed over, for they are no pictures: {len(pictures.others):,}"
        yield from (f"  {printable(name)}: {why}" for name, why in pictures.others.items())


def _templates(pictures: Pictures, source: Source | None) -> list[str]:
    """The templates of the data set itself: of a known name, or of a folder laid out as CLIP_benchmark's."""
    from spikeclip.data.prompts import TEMPLATES_FILE, load_prompts

    if pictures.labels is None:
        return []
    if source is None or source.known is not None:
        return load_prompts(pictures.name).templates
    return load_prompts(source.place).templates if (Path(source.place) / TEMPLATES_FILE).is_file() else []
