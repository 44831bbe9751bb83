"""The graphs of a saved model, in the folder `graph` beside its weights: what a machine without PyTorch runs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from spikeclip.errors import InputError
from spikeclip.files import check_target
from spikeclip.graph.ops import Graph, Image, InputOp, Tokens
from spikeclip.graph.store import load_graph, save_graph
from spikeclip.pretrained.resolve import GRAPHS, has_graphs
from spikeclip.records import read_json, write_record

if TYPE_CHECKING:
    from spikeclip.model import SpikeCLIP


class SavedGraphs(NamedTuple):
    image: Graph[Image]
    text: Graph[Tokens]
    logit_scale: float
    weights: str = ""
    """Hash of the file of weights that they were made of; empty for graphs that are in no file."""
    fingerprint: str = ""
    """That of the model (see `SpikeCLIP.fingerprint`); empty in graphs of older versions."""


def save_graphs(model: SpikeCLIP, folder: Path) -> Path:
    """Lower both towers of the model saved in `folder` into `folder`/graph and return that folder."""
    from spikeclip.graph.lower import lower

    graphs = folder / "graph"
    check_target(graphs, folder)
    save_graph(lower(model.image, model.config.image), graphs / "image")
    save_graph(lower(model.text), graphs / "text")
    facts = {
        "logit_scale": float(model.logit_scale.detach()),
        "weights": _weights_hash(folder),
        "fingerprint": model.fingerprint,
    }
    write_record(facts, folder / GRAPHS)
    return graphs


def load_graphs(folder: Path) -> SavedGraphs:
    """Read the graphs of a saved model.

    Raises `InputError` where there are none, those of other weights, or graphs that read something else.
    """
    graphs = folder / "graph"
    if not has_graphs(folder):
        raise InputError(f"{folder} holds no graphs; `spikeclip lower {folder}` makes them (with PyTorch)")
    facts = read_json(folder / GRAPHS)
    if (folder / "model.safetensors").is_file() and facts["weights"] != _weights_hash(folder):
        raise InputError(
            f"{graphs} is of other weights than {folder} has now; run `spikeclip lower {folder}`"
        )
    image, text = _load(graphs / "image", Image), _load(graphs / "text", Tokens)
    return SavedGraphs(image, text, facts["logit_scale"], facts["weights"], facts.get("fingerprint", ""))


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
    from spikeclip.graph.lower import lower
    from spikeclip.model import from_pretrained

    model = from_pretrained(folder)
    image, text = lower(model.image, model.config.image), lower(model.text)
    return SavedGraphs(image, text, float(model.logit_scale.detach()))


def _weights_hash(folder: Path) -> str:
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
