"""The one exception for a user's mistake: its message says what came, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from a user (file, recipe, label, shape). The command line prints it as one line."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return an `InputError` for a name that does not exist, suggesting the nearest known one."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(choices)}"
    return InputError(f"unknown {kind} {name!r}; {hint}")


def missing_extra(module: str, extra: str) -> InputError:
    """Return an `InputError` that names the optional extra which brings `module`."""
    return InputError(f"this needs {module}, which is not installed: pip install 'spikeclip[{extra}]'")


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, cut where it is long, or its class name where it has none."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else f"{line[:200]}..."
