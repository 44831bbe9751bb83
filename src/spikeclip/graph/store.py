"""Graphs on disk: NAME.json holds the operations, NAME.safetensors their arrays.

An array may be stored in int8 beside a scale: of each output channel, or of each row of an embedding.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from spikeclip.errors import InputError, first_line
from spikeclip.files import check_readable, replacing
from spikeclip.graph.check import check_tower
from spikeclip.graph.ops import OPS, Graph, Image, Op, Tokens
from spikeclip.records import read_json

FORMAT = 1
_SCALE = ".scale"


def save_graph(graph: Graph, path: str | Path, *, int8: bool = False) -> None:
    """Write `path`.json and `path`.safetensors; a file that is there already is replaced when the new one is whole.

    int8: round weights to 8 bits: a quarter of the size.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, arrays = [], {}
    for op in graph.ops:
        row: dict[str, Any] = {"op": type(op).__name__}
        for f in dataclasses.fields(op):
            value = getattr(op, f.name)
            if isinstance(value, np.ndarray):
                name = f"{op.name}.{f.name}"
                if int8 and value.ndim > 1:
                    arrays[name], arrays[name + _SCALE] = quantize(value, _scaled_axis(f.name))
                else:
                    arrays[name] = np.ascontiguousarray(value)
            else:
                row[f.name] = value
        rows.append(row)
    weights, text = _files(path)
    with replacing(weights) as file:
        file.write(save(arrays))
    with replacing(text) as file:
        file.write((json.dumps({"format": FORMAT, "ops": rows}, indent=1) + "\n").encode())


def load_graph(path: str | Path) -> Graph[Image | Tokens]:
    """Read what `save_graph(graph, path)` wrote.

    Raises `InputError` for what is missing, damaged or unknown, and for a graph that `check_tower` refuses.
    """
    weights, text = _files(Path(path))
    for file in (weights, text):
        if not file.is_file():
            raise InputError(f"{file}: no such file; `spikeclip lower MODEL` writes the graphs of a model")
        check_readable(file)
    described = read_json(text)
    try:
        arrays = load_file(weights)
    except Exception as error:  # safetensors' own, and what the system says
        raise InputError(f"{weights} is not a readable safetensors file: {first_line(error)}") from error
    try:
        graph = Graph(_operations(described, _floats(arrays)))
        check_tower(graph)
    except InputError as error:
        raise InputError(f"{path} is not a graph that can run: {error}") from error
    return graph


def _scaled_axis(field: str) -> int:
    """Return the axis that has a scale for each place: the outputs, or the rows of a table."""
    return 0 if field == "table_VC" else -1


def quantize(value: np.ndarray, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Return weights as int8 in -127 ... 127 and the float32 value of 1 at each place of an axis: the outputs."""
    rows = np.moveaxis(value, axis, 0)
    most = np.abs(rows.reshape(len(rows), -1)).max(1)
    scale = (np.maximum(most, np.finfo(np.float32).tiny) / 127).astype(np.float32)
    shape = [-1 if i == axis % value.ndim else 1 for i in range(value.ndim)]
    return np.rint(value / scale.reshape(shape)).clip(-127, 127).astype(np.int8), scale


def _floats(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays with those of int8 times their scales."""
    found = {name: array for name, array in arrays.items() if not name.endswith(_SCALE)}
    for name in arrays.keys() - found.keys():
        stored, scale = found.get(name.removesuffix(_SCALE)), arrays[name]
        whole = name.removesuffix(_SCALE)
        axis = _scaled_axis(whole.rpartition(".")[2])
        if stored is None or stored.dtype != np.int8 or stored.ndim < 2:
            raise InputError(f"{name[:60]!r} is the scale of no array in int8")
        if scale.dtype != np.float32 or scale.shape != (stored.shape[axis],):
            raise InputError(
                f"{name[:60]!r} is {scale.dtype} {scale.shape}, expected float32 ({stored.shape[axis]},)"
            )
        shape = [-1 if i == axis % stored.ndim else 1 for i in range(stored.ndim)]
        found[whole] = stored * scale.reshape(shape)
    return found


def _operations(described: Any, arrays: dict[str, np.ndarray]) -> list[Op]:
    """Return the operations as the files have them; `check` says whether they fit."""
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        found = described.get("format") if isinstance(described, dict) else type(described).__name__
        raise InputError(f"it has format {str(found)[:60]}, this version reads {FORMAT}")
    rows, ops, used = described.get("ops"), [], set()
    if not isinstance(rows, list) or described.keys() != {"format", "ops"}:
        raise InputError("expected format and a list of ops, and nothing else")
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise InputError("every operation is a table with its name")
        kind, name = row.pop("op", None), row["name"]
        cls = OPS.get(kind) if isinstance(kind, str) else None
        if cls is None:
            raise InputError(f"unknown operation at {name[:60]!r}")
        fields = {f.name for f in dataclasses.fields(cls)}
        needed = {f.name for f in dataclasses.fields(cls) if f.default_factory is not dataclasses.MISSING}
        stored: dict[str, Any] = {f: arrays[f"{name}.{f}"] for f in needed if f"{name}.{f}" in arrays}
        # A setting that an older file lacks has its default.
        if row.keys() - (fields - needed) or needed - stored.keys():
            raise InputError(f"the fields of {name[:60]!r} do not fit {cls.__name__}")
        used |= {f"{name}.{f}" for f in stored}
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        ops.append(cls(**plain, **stored))
    if arrays.keys() - used:
        raise InputError(f"no operation has the array {min(arrays.keys() - used)[:60]!r}")
    return ops


def _files(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".safetensors"), path.with_name(path.name + ".json")
