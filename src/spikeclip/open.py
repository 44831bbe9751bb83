"""The one loader: from what a person typed to an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spikeclip.config import Taught, read_saved
from spikeclip.encode.encoder import Encoder
from spikeclip.errors import InputError, install_hint
from spikeclip.graph.saved import graphs_taught
from spikeclip.pretrained.resolve import Found, has_graphs, resolve
from spikeclip.pretrained.shipped import shipped
from spikeclip.teacher import is_image_network

if TYPE_CHECKING:
    from spikeclip.model import SpikeCLIP

Source = str | Path | Sequence[str | Path]


def open_encoder(
    source: Source,
    engine: Literal["fp32", "int8"] | None = None,
    *,
    bf16: bool = False,
    batch_size: int = 256,
) -> Encoder:
    """Open a spiking network, a teacher, or tables of embeddings, by what `resolve` finds.

    source: a folder with a model, the folder of a run, a name on the Hugging Face hub; or `.npz` tables and an image
    network (see `open_teacher`). engine: run a
    spiking network's graphs on the event-driven engine, with weights of that precision. Without PyTorch, or where the
    graphs are all there is, the engine runs by itself, in fp32, which fires the same spikes up to rounding. bf16,
    batch_size: of a spiking network in PyTorch, matrix products in bfloat16 and inputs at a time. Raises `InputError`
    where there is nothing of the kind, and where an extra is missing. Models that come with the package have int8
    weights, and run in int8.
    """
    if engine and bf16:
        raise InputError("bf16 is for networks in PyTorch, and the engine runs fp32 or int8: choose one")
    if not isinstance(source, (str, Path)) or _is_teacher(source):
        return _teacher(source, engine)
    found = resolve(source)
    if found.kind == "teacher":
        return _teacher(found.folder, engine, str(source))
    torch = find_spec("torch") is not None
    alone = has_graphs(found.folder) and not (torch and (found.folder / "model.safetensors").is_file())
    if alone and bf16:
        raise InputError(
            f"bf16 is for networks in PyTorch, and {source} runs on the engine here: leave it out"
        )
    if engine or alone:
        return _runtime(found, engine or ("int8" if str(source) in shipped() else "fp32"))
    if not torch:
        raise InputError(
            f"{source} has no graphs, which is what runs without PyTorch: `spikeclip lower {source}` makes them on a "
            f"machine that has it, or install it here: {install_hint('train')}"
        )
    from spikeclip.encode.student import Student
    from spikeclip.model import from_pretrained

    return Student(from_pretrained(found.folder), batch_size, bf16)


def from_pretrained(source: str | Path, **options: Any) -> SpikeCLIP:
    """Load a spiking network in PyTorch, in eval mode, by what `resolve` finds; or from its graphs alone.

    options: those of `huggingface_hub.snapshot_download`. Raises `InputError` where there is no model, or one that
    cannot be read, and without PyTorch, where `open_encoder` is what runs.
    """
    if find_spec("torch") is None:
        raise InputError(
            f"from_pretrained makes a network in PyTorch, which is not installed: {install_hint('train')}; "
            "spikeclip.open_encoder opens models with graphs without it"
        )
    from spikeclip.graph.rebuild import load_network

    return load_network(resolve(source, **options).folder)


def taught_with(source: Source) -> Taught:
    """Return what a model was taught with, without opening it: a teacher or a table nothing.

    source: as of `open_encoder`. Raises `InputError` where there is no model, or one that is damaged.
    """
    if not isinstance(source, (str, Path)) or _is_teacher(source):
        return Taught()
    found = resolve(source)
    if found.kind == "teacher":
        return Taught()
    if (found.folder / "config.json").is_file():
        return read_saved(found.folder).taught
    return graphs_taught(found.folder)


def _is_teacher(source: str | Path) -> bool:
    """Whether a source is no folder of a model and no name on the hub, but a table or an image network."""
    return Path(source).suffix == ".npz" or is_image_network(source)


def _runtime(found: Found, precision: Literal["fp32", "int8"]) -> Encoder:
    from spikeclip.engine import Runtime

    return Runtime.from_pretrained(found.folder, precision=precision)


def _teacher(source: Source, engine: str | None, name: str = "") -> Encoder:
    if engine:
        raise InputError(
            f"{name or source} is a teacher: the engine runs spiking networks, from their graphs"
        )
    from spikeclip.teacher import open_teacher

    return open_teacher(source, name=name)
