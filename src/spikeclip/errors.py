"""The one exception for a user's mistake: its message says what came, what was expected and what to do."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from a user (file, recipe, label, shape). The command line prints it as one line."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM after which work can go on; its message says how."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return an `InputError` for a name that does not exist, suggesting the nearest known one."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    name = name if len(name) <= 80 else f"{name[:79]}…"
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(choices)}"
    return InputError(f"unknown {kind} {name!r}; {hint}")


def missing_extra(module: str, extra: str) -> InputError:
    """Return an `InputError` that names the optional extra which brings `module`."""
    return InputError(f"this needs {module}, which is not installed: pip install 'spikeclip[{extra}]'")


def printable(text: str) -> str:
    """Return a text that a terminal shows on one line: what cannot be printed, such as a line break, as its escape."""
    hidden = ("C", "Zl", "Zp")  # control characters, half of a character, line and paragraph separators
    return "".join(ascii(c)[1:-1] if unicodedata.category(c).startswith(hidden) else c for c in text)


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its class name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
