"""`spikeclip cache`: what is kept on disk, and how to be rid of it."""

from __future__ import annotations

from typing import Annotated

import typer

from spikeclip.defaults import CACHE

HELP = """Show or clear what is kept on disk.

Decoded pictures, embeddings of teachers and the engine's measurements are kept so that the next start is fast.
Everything is computed again where it is missing, so nothing is lost by --clear. KIND is pictures, embeddings or
engine; without one, all."""
EXAMPLES = """Examples:

\b
  spikeclip cache
  spikeclip cache --clear
  spikeclip cache pictures embeddings --clear"""


def cache(
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="[KIND]...", help="What to clear.", show_default=False)
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete it.")] = False,
    folder: Annotated[str, typer.Option("--cache", help="Folder to look in.")] = CACHE,
) -> None:
    """Show or clear the cache."""
    from spikeclip.cache import KINDS, clear_cache, kept
    from spikeclip.cli.tables import print_table

    chosen = kinds or tuple(KINDS)
    if clear:
        print(f"{_size(clear_cache(chosen, folder))} freed in {folder}")
        return
    rows = [
        (row.kind, KINDS[row.kind], row.files, _size(row.bytes), f"{row.used:%Y-%m-%d}" if row.used else "-")
        for row in kept(chosen, folder)
    ]
    print_table(folder, ("kind", "what", "files", "size", "last used"), rows, numbers=(2, 3))
    print("--clear deletes it; what is needed is computed again.")


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
