"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Templates = Annotated[
    list[str] | None,
    typer.Option(help="Prompt with {c} for the class; repeatable.", show_default="a photo of a {c}."),
]
Renames = Annotated[list[str] | None, typer.Option(metavar="OLD=NEW", help="Rename a class; repeatable.")]


def renames(pairs: list[str]) -> dict[str, str]:
    """Return what `Renames` was given as old name: new name; raises `InputError` for anything else."""
    from spikeclip.errors import InputError

    names = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise InputError(f"--rename expects OLD=NEW, got {pair!r}")
        names[old] = new
    return names
