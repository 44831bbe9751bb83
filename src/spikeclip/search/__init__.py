"""Find pictures by words: an index of embeddings on disk; names resolve on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikeclip.search.check import Verified
    from spikeclip.search.index import Index, Stats
    from spikeclip.search.query import query_vector
    from spikeclip.search.rows import Hit
    from spikeclip.search.writer import Added

_HOME = {
    "Added": "writer",
    "Hit": "rows",
    "Index": "index",
    "Stats": "index",
    "Verified": "check",
    "query_vector": "query",
}

__all__ = ["Added", "Hit", "Index", "Stats", "Verified", "query_vector"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        from spikeclip.errors import missing_module

        raise missing_module(error) from error
