"""`spikeclip index`: make an index of pictures, or bring it up to date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from spikeclip.cli.options import with_options
from spikeclip.defaults import INDEX, MODEL

if TYPE_CHECKING:
    from spikeclip.search import Added, Index

HELP = """Index pictures, to find them by words.

`spikeclip search` then finds them.

FOLDER is a folder (with its subfolders) or a picture. Run it again after pictures came or went: what has not changed
is not read, a file that moved keeps its row, and --prune drops files that are gone; without FOLDER, the folders from
before are brought up to date. It may be stopped at any time, and goes on where it was. Hidden files are passed over.
Damaged pictures and those above 100 million pixels are counted and named, and tried again when they have changed."""
EXAMPLES = """Examples:

\b
  spikeclip index ~/Pictures
  spikeclip index ~/Pictures /mnt/photos --prune
  spikeclip index ~/Pictures --db pictures.index --model runs/cifar10
  spikeclip index --verify
  spikeclip index ~/Pictures/private --remove
  spikeclip index --from-embeddings laion/ --model openai/clip-vit-base-patch32 --db laion.index
  spikeclip index --export embeddings/"""

_NAMED = 10
"""Files that are named one by one; the others are counted."""


class IndexOptions(NamedTuple):
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="[FOLDER]...", help="Pictures.", show_default=False)
    ] = None
    db: Annotated[Path, typer.Option(help="Folder of the index.")] = Path(INDEX)
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="What embeds.", show_default=f"the index's, or {MODEL}"),
    ] = None
    prune: Annotated[bool, typer.Option("--prune", help="Drop files of FOLDER that are gone.")] = False
    remove: Annotated[
        bool, typer.Option("--remove", help="Drop FOLDER from the index, not from the disk.")
    ] = False
    verify: Annotated[bool, typer.Option("--verify", help="Compare the index with the files.")] = False
    compact: Annotated[
        bool, typer.Option("--compact", help="Join its files; drop what was replaced over an hour ago.")
    ] = False
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make it anew, of the same folders.")] = False
    approximate: Annotated[
        bool | None,
        typer.Option(
            "--approximate/--no-approximate",
            help="Searches compare 2 % of the rows exactly, for 200,000 pictures and more.",
            show_default="as it was, or exact",
        ),
    ] = None
    from_embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Take the embeddings of a clip-retrieval folder.", show_default=False
        ),
    ] = None
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the embeddings as a clip-retrieval folder.", show_default=False
        ),
    ] = None


@with_options(IndexOptions)
def index(options: IndexOptions) -> None:
    """Index pictures."""
    given = options.folders or []
    _check_one_thing(options)
    if options.remove:
        _remove(_open(options), given)
    elif options.verify:
        _verify(_open(options))
    elif options.export:
        from spikeclip.search.embeddings import export_embeddings

        count = export_embeddings(_open(options), options.export)
        print(f"{count:,} embeddings: {options.export}")
    elif options.compact or (options.approximate is not None and not given):
        found = _open(options)
        if options.compact:
            found.compact()
        _finish(found, options)
    else:
        _add(options, given)


def _check_one_thing(options: IndexOptions) -> None:
    """Raise `InputError` for options of which some would do nothing."""
    from spikeclip.errors import InputError

    whole = ("verify", "export", "compact", "from_embeddings")
    given = [name for name in ("remove", *whole, "prune") if getattr(options, name)]
    flags = [f"--{name.replace('_', '-')}" for name in given]
    if len(given) > 1:
        raise InputError(f"{flags[0]} and {flags[1]} are two things: ask for one at a time")
    if options.folders and given and given[0] in whole:
        raise InputError(f"{flags[0]} is for the whole index: leave out {options.folders[0]}")


def _remove(index: Index, given: list[str]) -> None:
    import os

    from spikeclip.errors import InputError
    from spikeclip.search.index import all_absolute

    if not given:
        raise InputError("--remove drops the folders or files that are named: name at least one")
    print(f"{index.remove(given):,} removed")
    paths = [str(path) for path in all_absolute(given)]
    for folder in index.stats().folders:
        if any(path.startswith(os.path.join(folder, "")) and os.path.exists(path) for path in paths):
            print(f"`spikeclip index` adds what is still there again, as it is in {folder}")


def _open(options: IndexOptions) -> Index:
    from spikeclip.search import Index

    return Index.open(options.db)


def _add(options: IndexOptions, given: list[str]) -> None:
    from spikeclip.errors import InputError
    from spikeclip.open import open_encoder
    from spikeclip.search import Index
    from spikeclip.search.store import ABOUT, read_about

    db = options.db.expanduser()
    try:
        there = read_about(db) if (db / ABOUT).is_file() else None
    except InputError:
        if not options.rebuild:
            raise
        there = None
    if there is None and not given and options.from_embeddings is None:
        raise InputError(f"no index in {db} yet: name a folder of pictures")
    model = options.model or (there.model if there else MODEL)
    if options.from_embeddings is not None:
        from spikeclip.search.embeddings import read_embeddings

        folder = options.from_embeddings
        found = Index.create(db, open_encoder(model), model=model, rebuild=options.rebuild)
        print(f"{read_embeddings(found, folder):,} rows from {folder}")
        if (folder.expanduser() / "text_emb").is_dir():
            print("text_emb was passed over: an index holds embeddings of pictures")
    else:
        encoder = open_encoder(model)
        found = Index.create(db, encoder, model=model, rebuild=options.rebuild)
        _print_added(found.add(encoder, given, prune=options.prune, progress=True))
    _finish(found, options)


def _print_added(added: Added) -> None:
    import sys

    from spikeclip.errors import printable

    for path, why in list(added.unreadable.items())[:_NAMED]:
        print(f"unreadable {printable(path)}: {why}", file=sys.stderr)
    if (more := len(added.unreadable) - _NAMED) > 0:
        print(f"unreadable: {more:,} more", file=sys.stderr)
    done = added.added + added.changed
    rate = f", {done / added.seconds:.0f} pictures/s" if done and added.seconds else ""
    names = ("added", "unchanged", "moved", "changed", "removed")
    counts = ", ".join(f"{getattr(added, name):,} {name}" for name in names)
    print(f"{counts}, {len(added.unreadable):,} unreadable; {added.seconds:.1f} s{rate}")


def _finish(index: Index, options: IndexOptions) -> None:
    from spikeclip.search.index import APPROXIMATE_FROM

    if options.approximate is not None:
        index.set_approximate(options.approximate)
    stats = index.stats()
    searches = ", approximate searches" if stats.approximate else ""
    print(f"{index.folder}: {stats.rows:,} pictures, {stats.bytes / 1e6:.1f} MB, {stats.model}{searches}")
    if stats.rows >= APPROXIMATE_FROM and not stats.approximate:
        print("`spikeclip index --approximate` makes searches faster; they may then miss some pictures.")


def _verify(index: Index) -> None:
    from spikeclip.errors import InputError, printable

    found = index.verify()
    wrong = 0
    for name in ("gone", "changed", "broken", "twice"):
        paths = getattr(found, name)
        wrong += len(paths)
        for path in paths[:_NAMED]:
            print(f"{name} {printable(path)}")
        if len(paths) > _NAMED:
            print(f"{name}: {len(paths) - _NAMED:,} more")
    if wrong:
        raise InputError(
            f"{wrong:,} of {found.rows:,} rows do not agree with the files: `spikeclip index --db {index.folder} "
            "--prune` mends that in indexed folders, and --remove drops single files"
        )
    print(f"{found.rows:,} rows agree with their files")
