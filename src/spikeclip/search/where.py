"""Which conditions a search takes: comparisons of columns, texts and numbers.

LanceDB's SQL has functions that take all memory or end the process, passes over what comes after a semicolon, and
shows the values of rows in its errors. None of them is needed to choose files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from spikeclip.errors import InputError
from spikeclip.search.store import COLUMNS, reason

_WORDS = ("and", "or", "not", "in", "like", "ilike", "escape", "between", "is", "null", "true", "false")
_FUNCTIONS = ("lower", "upper", "length", "starts_with", "ends_with", "contains")
_KNOWN = {*COLUMNS, *_WORDS, *_FUNCTIONS}
_MOST = 250
"""Words and signs of a condition: LanceDB calls itself for each, and its stack is short."""
_PART = re.compile(
    r"""\s+|'(?:[^']|'')*'|(?P<word>[a-z_][a-z_0-9]*)|[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?|[(),]
    |(?!--|/\*)(?P<sign>[-+*/%=]|[<>]=?|<>|!=)""",
    re.IGNORECASE | re.VERBOSE,
)


@contextmanager
def checked(where: str) -> Iterator[None]:
    """Check a condition, and let an error of LanceDB be one of it."""
    _check(where)
    try:
        yield
    except Exception as error:
        why = reason(error)
        if "xecution" in why:  # what follows are values of rows
            why = "it cannot be worked out for every row, as a text that is no number or a division by 0"
        raise _refused(where, why) from error


def _check(where: str) -> None:
    """Raise `InputError` for a condition of anything else than `COLUMNS`, texts, numbers and a few functions."""
    at = count = 0
    while at < len(where):
        part = _PART.match(where, at)
        if part is None:
            raise _refused(
                where, f"{where[at : at + 20]!r} has no meaning in it (texts stand in single quotes)"
            )
        word = part["word"]
        if word and word.lower() not in _KNOWN:
            raise _refused(where, f"it has no {word[:80]!r}")
        at, count = part.end(), count + (part.lastgroup is not None)
    if count > _MOST:
        raise _refused(where, f"it has {count:,} words and signs, the bound is {_MOST}")


def _refused(where: str, why: str) -> InputError:
    shown = where if len(where) <= 200 else f"{where[:200]}…"
    return InputError(
        f"the condition {shown!r} cannot be used: {why}; it is SQL on the columns {', '.join(COLUMNS)}, such as "
        f"\"path LIKE '%2024%'\", with the functions {', '.join(_FUNCTIONS)}"
    )
