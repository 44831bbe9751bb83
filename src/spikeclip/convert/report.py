"""What a person sees of a conversion: a bar with an estimate, and a line for what is done."""

from __future__ import annotations

from typing import Any

from spikeclip.progress import progress_bar


class Report:
    """A context; `shown=False` says nothing. Lines and bar go to stderr."""

    def __init__(self, shown: bool = False) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, quiet=not shown)
        self.bar = progress_bar(self.console, shown)
        self.costs: list[float] = []

    def __enter__(self) -> Report:
        self.bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.stop()

    def begin(self, work: list[tuple[float, int, int]]) -> None:
        """Show the bar, in percent. work: cost of a step, steps, and steps done already, of each piece."""
        total = sum(cost * steps for cost, steps, _ in work) or 1.0
        self.costs = [100 * cost / total for cost, _, _ in work]
        done = sum(100 * cost * steps / total for cost, _, steps in work)
        self.task = self.bar.add_task("converting", total=100, completed=int(done), info="")

    def step(self, title: str, piece: int, info: str) -> None:
        """Count one step of a piece of the work."""
        self.bar.update(self.task, advance=self.costs[piece], description=title, info=info)

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
