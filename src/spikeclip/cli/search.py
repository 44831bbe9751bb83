"""`spikeclip search`: find indexed pictures by words, or by a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from spikeclip.cli.options import with_options
from spikeclip.defaults import INDEX

if TYPE_CHECKING:
    from spikeclip.search import Hit

HELP = """Find indexed pictures by words or by a picture.

`spikeclip index` makes the index.

The score is the cosine between picture and query. Several texts and pictures are added up, and --not is taken away.
--where is a condition in SQL on the columns id, path, size (bytes), mtime, width, height and indexed (seconds since
1970)."""
EXAMPLES = """Examples:

\b
  spikeclip search "a red bus"
  spikeclip search "a dog" --not grass -n 50
  spikeclip search --like cat.jpg --sheet found.png
  spikeclip search beach --where "path LIKE '%2024%' AND width > 1000"
  spikeclip search "a red bus" --json"""


class SearchOptions(NamedTuple):
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="What to find.", show_default=False)
    ] = None
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Pictures to show.")] = 20
    like: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PICTURE", help="A picture to find others like; repeatable.", show_default=False
        ),
    ] = None
    unwanted: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="TEXT", help="What not to find; repeatable.", show_default=False),
    ] = None
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="A condition on the files.", show_default=False)
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the pictures into a .png file.", show_default=False),
    ] = None
    db: Annotated[Path, typer.Option(help="Folder of the index.")] = Path(INDEX)
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What embeds the query.", show_default="the index's")
    ] = None


@with_options(SearchOptions)
def search(options: SearchOptions) -> None:
    """Search an index."""
    from spikeclip.errors import InputError, printable
    from spikeclip.figures import check_drawing
    from spikeclip.open import open_encoder
    from spikeclip.search import Index, query_vector

    if options.sheet:
        if options.sheet.suffix != ".png":
            raise InputError(f"--sheet names a .png file, got {options.sheet}")
        check_drawing()
    found = Index.open(options.db)
    encoder = open_encoder(options.model or found.model)
    found.check(encoder, options.model)
    vector_D = query_vector(
        encoder, texts=options.texts or (), pictures=options.like or (), without=options.unwanted or ()
    )
    hits = found.search(vector_D, options.number, where=options.where)
    if not hits:
        print("no picture was found", file=sys.stderr)
    if options.as_json:
        from spikeclip.records import json_text

        print(json_text([{**vars(hit), "path": str(hit.path)} for hit in hits]))
    else:
        for hit in hits:
            print(f"{hit.score:6.3f}  {printable(str(hit.path))}")
    if options.sheet and hits:
        _draw(hits, " ".join(options.texts or []), options.sheet)


def _draw(hits: list[Hit], title: str, out: Path) -> None:
    """Draw the pictures that can still be read."""
    from spikeclip.data.decode import decode
    from spikeclip.data.sheet import picture_sheet
    from spikeclip.errors import InputError, printable
    from spikeclip.figures import save_figure

    images = [(hit, decode(hit.path, 224)) for hit in hits]
    for hit, image in images:
        if isinstance(image, str):
            print(f"not drawn {printable(str(hit.path))}: {image}", file=sys.stderr)
    drawn = [(hit, image) for hit, image in images if not isinstance(image, str)]
    if not drawn:
        raise InputError("none of the pictures that were found can be drawn")
    texts = [f"{hit.score:.3f} {printable(hit.path.name)}" for hit, _ in drawn]
    out.parent.mkdir(parents=True, exist_ok=True)
    save_figure(picture_sheet([image for _, image in drawn], texts, printable(title)), out)
    print(f"contact sheet: {out}", file=sys.stderr)
