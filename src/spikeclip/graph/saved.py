"""The graphs of a saved model, in the folder `graph` beside its weights: what a machine without PyTorch runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from spikeclip.config import Taught, read_taught, to_dict
from spikeclip.errors import InputError
from spikeclip.files import check_target, file_hash
from spikeclip.graph.check import check_tower
from spikeclip.graph.ops import LARGEST, Graph, Image, InputOp, Tokens
from spikeclip.graph.shapes import dimension, full_shape
from spikeclip.graph.store import load_graph, save_graph
from spikeclip.pretrained.resolve import GRAPHS, has_graphs
from spikeclip.records import read_json, write_record

if TYPE_CHECKING:
    from spikeclip.model import SpikeCLIP


FILES = ("image.json", "image.safetensors", "text.json", "text.safetensors")
"""Beside model.json, which says what they belong to."""


class SavedGraphs(NamedTuple):
    """Both towers and what model.json says of them."""

    image: Graph[Image]
    text: Graph[Tokens]
    logit_scale: float
    weights: str = ""
    """Hash of the file of weights that they were made of; empty for graphs that are in no file."""
    fingerprint: str = ""
    """That of the model (see `SpikeCLIP.fingerprint`); empty for graphs that are in no file."""
    taught: Taught = Taught()
    """What the model was taught with."""


_FACTS = SavedGraphs._fields[2:]


def save_graphs(model: SpikeCLIP, folder: Path) -> Path:
    """Lower both towers of the model saved in `folder` into `folder`/graph and return that folder.

    Raises `InputError` as `write_graphs` does.
    """
    weights = file_hash(folder / "model.safetensors")
    return write_graphs(lowered(model)._replace(weights=weights, fingerprint=model.fingerprint), folder)


def write_graphs(graphs: SavedGraphs, folder: Path, *, int8: bool = False) -> Path:
    """Write the graphs of a model into `folder`/graph and return that folder. int8: see `save_graph`.

    model.json is removed first and written last: without it there are no graphs, so half of them are never read.
    Raises `InputError` where `folder`/graph is a symbolic link or a file, and for graphs that cannot run.
    """
    image, text, *rest = graphs
    out = folder / "graph"
    facts: dict[str, Any] = {**dict(zip(_FACTS, rest, strict=True)), "taught": to_dict(graphs.taught)}
    check_target(out)
    if out.is_file():
        raise InputError(f"{out} is a file, and graphs are written to a folder: remove it and lower again")
    for tower in (image, text):
        check_tower(tower)
    for left in [folder / GRAPHS, *out.glob(".*.tmp")]:  # the latter of a `lower` that was killed
        left.unlink(missing_ok=True)
    save_graph(image, out / "image", int8=int8)
    save_graph(text, out / "text", int8=int8)
    write_record({**facts, "graphs": _graphs_hash(out, facts)}, folder / GRAPHS)
    return out


def load_graphs(folder: Path) -> SavedGraphs:
    """Read the graphs of a saved model.

    Raises `InputError` where there are none, those of other weights, changed ones, or graphs that read something else.
    """
    graphs = folder / "graph"
    if not has_graphs(folder):
        raise InputError(f"{folder} holds no graphs; `spikeclip lower {folder}` makes them (with PyTorch)")
    try:
        facts = read_json(folder / GRAPHS)
        _check_facts(facts)
        missing = [name for name in FILES if not (graphs / name).is_file()]
        if missing:
            raise InputError(f"{graphs} lacks {', '.join(missing)}")
        if facts.pop("graphs") != _graphs_hash(graphs, facts):
            raise InputError(f"{graphs} was changed after `spikeclip lower`")
        facts["taught"] = read_taught(facts["taught"], str(folder / GRAPHS))
        image, text = _load(graphs / "image", Image), _load(graphs / "text", Tokens)
        if image.input.format.shape != full_shape(image.input):
            raise InputError(f"{graphs / 'image'} reads {full_shape(image.input)}, which no picture is")
        if (dims := (dimension(image), dimension(text)))[0] != dims[1]:
            raise InputError(f"{graphs} embeds pictures and texts in {dims[0]} and {dims[1]} dimensions")
    except InputError as error:
        raise InputError(f"{error}; run `spikeclip lower {folder}` again") from error
    weights = folder / "model.safetensors"
    if weights.is_file() and facts["weights"] != file_hash(weights):
        raise InputError(
            f"{graphs} is of other weights than {folder} has now; run `spikeclip lower {folder}`"
        )
    return SavedGraphs(image, text, **facts)


def graphs_taught(folder: Path) -> Taught:
    """Return what the model of the graphs in `folder` was taught with."""
    facts = read_json(folder / GRAPHS)
    return read_taught(facts.get("taught") if isinstance(facts, dict) else None, str(folder / GRAPHS))


def _check_facts(facts: Any) -> None:
    """Raise `InputError` where model.json does not hold what `save_graphs` writes."""
    if not isinstance(facts, dict) or facts.keys() != {*_FACTS, "graphs"}:
        raise InputError(f"{GRAPHS} is damaged or of another version")
    scale, names = facts["logit_scale"], ("weights", "fingerprint", "graphs")
    if (
        not isinstance(scale, float)
        or not 0 < scale <= LARGEST
        or not all(isinstance(facts[n], str) for n in names)
    ):
        raise InputError(f"{GRAPHS} is damaged: expected a logit_scale above 0 and hashes")


def _load(path: Path, kind: type[InputOp]) -> Graph[InputOp]:
    graph = load_graph(path)
    if not isinstance(graph.input, kind):
        raise InputError(
            f"{path} is a graph that reads {type(graph.input).__name__}, expected {kind.__name__}"
        )
    return cast(Graph[InputOp], graph)


def open_graphs(folder: Path) -> SavedGraphs:
    """Return the graphs of a saved model: those in its folder or, where there are none, lowered now (with PyTorch)."""
    if has_graphs(folder):
        return load_graphs(folder)
    from spikeclip.model import from_pretrained

    return lowered(from_pretrained(folder))


def lowered(model: SpikeCLIP) -> SavedGraphs:
    """Return the graphs of a model that is in memory."""
    from spikeclip.graph.lower import lower

    image, text = lower(model.image, model.config.image), lower(model.text)
    return SavedGraphs(image, text, float(model.logit_scale.detach()), taught=model.taught)


def _graphs_hash(graphs: Path, facts: Mapping[str, Any]) -> str:
    """Return a hash of all that is in a folder of graphs: its files and what model.json says of them."""
    hashes = {name: file_hash(graphs / name) for name in FILES}
    return hashlib.sha256(json.dumps([hashes, facts], sort_keys=True).encode()).hexdigest()
