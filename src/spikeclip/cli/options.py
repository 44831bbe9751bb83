"""Options that several commands have, and commands that get theirs in one value."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter, Signature
from typing import Annotated, TypeVar

import typer

from spikeclip.defaults import TEMPLATE

Options = TypeVar("Options", bound=tuple)

Cache = Annotated[str, typer.Option(help="Folder of decoded pictures.")]
Templates = Annotated[
    list[str] | None,
    typer.Option(
        help="Prompt with {c} for the class; repeatable.",
        show_default="as the model was taught, or else " + TEMPLATE,
    ),
]
Renames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OLD=NEW", help="Rename a class; repeatable.", show_default="as the model was taught"
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        metavar="int8|fp32",
        help="Run on the event-driven engine (see `spikeclip lower`).",
        show_default="PyTorch, or fp32 where that is not installed",
    ),
]


def with_options(options: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Let a command have the fields of a named tuple as its arguments and options, and get them as one value."""

    def decorate(command: Callable[[Options], None]) -> Callable[..., None]:
        def run(**given: typing.Any) -> None:
            with naming_split(**given):
                command(options(**given))  # pyright: ignore[reportCallIssue]

        hints = typing.get_type_hints(options, include_extras=True)
        defaults = options._field_defaults  # type: ignore[attr-defined]
        run.__signature__ = Signature(  # type: ignore[attr-defined]
            [
                Parameter(
                    name,
                    Parameter.KEYWORD_ONLY,
                    default=defaults.get(name, Parameter.empty),
                    annotation=hints[name],
                )
                for name in hints
            ]
        )
        run.__annotations__ = hints
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorate


@contextmanager
def naming_split(**given: typing.Any) -> Iterator[None]:
    """Let the error for a split that a data set lacks end with the option that names another one.

    given: the options of a command, of which `split` and `train_split` name splits.
    """
    from spikeclip.errors import InputError

    try:
        yield
    except InputError as error:
        from spikeclip.data.locate import NoSplit

        for name in ("split", "train_split"):
            if isinstance(error, NoSplit) and given.get(name) == error.wanted:
                option = f"--{name.replace('_', '-')}"
                value = error.found[0] if len(error.found) == 1 else "with one of these"
                raise InputError(f"{error}; add {option} {value}") from error
        raise


def renames(pairs: list[str] | None) -> dict[str, str]:
    """Return what `Renames` was given as old name: new name; raises `InputError` for anything else."""
    from spikeclip.errors import InputError

    names = {}
    for pair in pairs or []:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise InputError(f"--rename expects OLD=NEW, got {pair!r}")
        names[old] = new
    return names


def known_engine(engine: str | None) -> typing.Literal["fp32", "int8"] | None:
    """Return what `Engine` was given; raises `InputError` for a precision that the engine does not have."""
    if engine in (None, "fp32", "int8"):
        return engine  # type: ignore[return-value]
    from spikeclip.errors import unknown

    raise unknown("precision", engine, ("fp32", "int8"))
