"""Data sets of the Hugging Face hub: their splits as tables, from the network or from an earlier download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeclip.data.known import FOLDER_VARIABLE, Known, known_datasets
from spikeclip.data.readers.rows import Rows
from spikeclip.errors import InputError, first_line, missing_module, nearest
from spikeclip.hub import SECONDS, hub_answers

if TYPE_CHECKING:
    import datasets


def hub_splits(name: str, known: Known | None = None) -> dict[str, Callable[[], datasets.Dataset]]:
    """Return the splits of a data set on the hub, by their names there; a call returns the table of one.

    name: owner/name on the hub. known: its entry in datasets.yaml; where that gives the files of each split, a split
    is fetched when it is called, and else all of them are fetched here. Raises `InputError` where the hub has no such
    data set, cannot be reached or does not deliver it.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:  # it, or what it needs
        raise missing_module(error) from None
    offline = not hub_answers(
        lambda hub: hub.dataset_info(name, timeout=SECONDS), f"{_what(name, known)}, which", "data set"
    )

    def load(**options: Any) -> Any:
        try:
            with _without_network() if offline else nullcontext():
                return datasets.load_dataset(name, **options)
        except Exception as error:
            # Missing files, an ambiguous configuration and the rest have no common class of errors.
            problem = f"could not deliver it ({first_line(error)})"
            if offline:
                problem = f"could not be reached: {_instead(known)}"
            raise InputError(f"{_what(name, known)}, which {problem}") from error

    if known is not None and known.files is not None:
        # All splits share one verification of sizes, so it is off where only one is fetched.
        files = {theirs: known.files.format(split=theirs) for theirs, _ in known.splits.values()}
        return {
            split: partial(load, data_files={split: pattern}, split=split, verification_mode="no_checks")
            for split, pattern in files.items()
        }
    whole = load()
    return {str(split): partial(whole.__getitem__, split) for split in whole}


def hub_rows(table: datasets.Dataset) -> tuple[Rows, list[Path]]:
    """Return a table of the hub column by column, and the folders where pictures lie that it names by path."""
    import datasets
    from datasets.config import HF_DATASETS_CACHE
    from huggingface_hub.constants import HF_HUB_CACHE

    columns = list(table.column_names)
    for name in columns:
        if isinstance(table.features[name], datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    features = table.features
    structs = [
        name
        for name, feature in features.items()
        if isinstance(feature, datasets.Image) or (isinstance(feature, dict) and "path" in feature)
    ]
    named = {name: list(f.names or []) for name, f in features.items() if isinstance(f, datasets.ClassLabel)}

    def cells(column: str, rows: np.ndarray | None) -> Iterator[Any]:
        name, inside = (column[:-5], "path") if column not in columns else (column, "")
        part = table.select_columns([name])
        part = part if rows is None else part.select(rows)
        arrow: Any = part.with_format("arrow")
        for batch in arrow.iter(1000):
            values = batch[name].combine_chunks()
            yield from (values.field(inside) if inside else values).to_pylist()

    rows = Rows(len(table), [*columns, *(f"{name}.path" for name in structs)], named, cells)
    return rows, [Path(HF_HUB_CACHE), Path(HF_DATASETS_CACHE)]


def _what(name: str, known: Known | None) -> str:
    if known is not None:
        return f"{known.name} is {name!r} on the Hugging Face hub"
    near = nearest(name, known_datasets())
    hint = f" (did you mean {near!r}?)" if near else ""
    return f"{name!r} is neither a folder nor a known data set{hint}, so it is looked for on the Hugging Face hub"


def _instead(known: Known | None) -> str:
    if known is None:
        return "give a folder instead, or a name from `spikeclip data list`"
    return f"fetch it once with a connection, or let {FOLDER_VARIABLE} name a folder that holds it as {known.name}/"


@contextmanager
def _without_network() -> Iterator[None]:
    """Let the hub's client answer from its cache, as HF_HUB_OFFLINE=1 set before import would."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
