"""Graphs on disk: NAME.json holds the operations, NAME.safetensors their arrays."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from spikeclip.errors import InputError, first_line
from spikeclip.files import check_readable, replacing
from spikeclip.graph.ops import OPS, Graph, Image, Tokens

FORMAT = 1


def save_graph(graph: Graph, path: str | Path) -> None:
    """Write `path`.json and `path`.safetensors; a file that is there already is replaced when the new one is whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, arrays = [], {}
    for op in graph.ops:
        row: dict[str, Any] = {"op": type(op).__name__}
        for f in dataclasses.fields(op):
            value = getattr(op, f.name)
            if isinstance(value, np.ndarray):
                arrays[f"{op.name}.{f.name}"] = np.ascontiguousarray(value)
            else:
                row[f.name] = value
        rows.append(row)
    weights, text = _files(path)
    with replacing(weights) as file:
        file.write(save(arrays))
    with replacing(text) as file:
        file.write((json.dumps({"format": FORMAT, "ops": rows}, indent=1) + "\n").encode())


def load_graph(path: str | Path) -> Graph[Image | Tokens]:
    """Read what `save_graph(graph, path)` wrote. Raises `InputError` for what is missing, damaged or unknown."""
    weights, text = _files(Path(path))
    for file in (weights, text):
        if not file.is_file():
            raise InputError(f"{file}: no such file; `spikeclip lower MODEL` writes the graphs of a model")
    for file in (weights, text):
        check_readable(file)
    try:
        described, arrays = json.loads(text.read_text()), load_file(weights)
    except Exception as error:  # safetensors and json have no exception in common
        raise InputError(f"{path}: the graph cannot be read ({first_line(error)})") from error
    if described.get("format") != FORMAT:
        raise InputError(f"{text} has format {described.get('format')}, this version reads {FORMAT}")
    ops = []
    for row in described["ops"]:
        cls = OPS.get(row.pop("op"))
        if cls is None:
            raise InputError(f"{text} holds an unknown operation at {row.get('name')!r}")
        fields = {f.name for f in dataclasses.fields(cls)}
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        stored: dict[str, Any] = {
            f: arrays[f"{row['name']}.{f}"] for f in fields - plain.keys() if f"{row['name']}.{f}" in arrays
        }
        needed = {f.name for f in dataclasses.fields(cls) if f.default_factory is not dataclasses.MISSING}
        # A setting that an older file lacks has its default.
        if plain.keys() - fields or needed - stored.keys():
            raise InputError(f"{path}: the fields of {row['name']!r} do not fit {cls.__name__}")
        ops.append(cls(**plain, **stored))
    if not ops or not isinstance(ops[0], (Image, Tokens)):
        raise InputError(f"{text}: a graph begins with Image or Tokens")
    return Graph(ops)


def _files(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".safetensors"), path.with_name(path.name + ".json")
