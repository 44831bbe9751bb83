"""A progress bar with an estimate, for whoever sits at a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Item = TypeVar("Item")


def tracked(
    items: Iterable[Item], title: str, total: int | None = None, shown: bool = True
) -> Iterable[Item]:
    """Return `items` with a progress bar around them, where one is wanted and stderr is a terminal.

    total: how many there are, where `items` has no length.
    """
    if not shown:
        return items
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, title, total, console=console, transient=True) if console.is_terminal else items


def progress_bar(console: Console, shown: bool = True) -> Progress:
    """Return a bar of steps with an estimate; its tasks have a field `info`. Only a terminal shows it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    info = TextColumn("{task.fields[info]}")
    return Progress(
        *columns, info, TimeRemainingColumn(), console=console, disable=not shown or not console.is_terminal
    )
