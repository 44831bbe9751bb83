"""From a source to the teacher of the right kind."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from spikeclip.errors import InputError, missing_extra
from spikeclip.pretrained.resolve import resolve
from spikeclip.records import read_json
from spikeclip.teacher.base import Teacher
from spikeclip.teacher.table import TableTeacher


def is_image_network(source: str | Path) -> bool:
    """Whether `source` is written as that of an ordinary image network: efficientnet-lite0, or a .pth file."""
    return str(source).startswith("efficientnet-") or Path(source).suffix == ".pth"


def open_teacher(
    source: str | Path | Sequence[str | Path],
    *,
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    name: str = "",
    readout: str | Path | None = None,
) -> Teacher:
    """Open a CLIP or SigLIP model, a sentence encoder, a saved network of ours, or `.npz` tables of embeddings.

    Beside tables may stand one ordinary image network (see `read_network`), for the pictures that they lack.
    name: what results call it, the source by default. readout: file with the linear map by which the image network
    embeds pictures, see `ImageTeacher`. Raises `InputError` where nothing usable is found.
    """
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    paths = [Path(s).expanduser() for s in sources]
    networks = [path for path in sources if is_image_network(path)]
    if readout is not None and not networks:
        raise InputError(f"{readout} is a readout of an image network's features, and {source} is none")
    if paths and all(path.suffix == ".npz" for path in paths):
        return TableTeacher(paths)
    tables = [path for path in paths if path.suffix == ".npz"]
    if len(networks) == 1 and len(tables) == len(paths) - 1:
        if find_spec("torch") is None:
            raise missing_extra("torch", "train")
        from spikeclip.teacher.image import ImageTeacher

        return ImageTeacher(networks[0], tables, device, precision, readout)
    if len(paths) != 1:
        raise InputError(
            f"several teachers in one are .npz tables and at most one image network, got {[str(p) for p in paths]}"
        )
    if find_spec("transformers") is None:
        raise missing_extra("transformers", "train")
    source = name or str(sources[0])
    try:
        found = resolve(sources[0])
    except InputError as error:
        raise InputError(
            f"{error}; `spikeclip teacher train DATA --out DIR` trains a small teacher"
        ) from error
    if found.kind == "spikeclip":
        from spikeclip.teacher.saved import SavedTeacher

        return SavedTeacher(found.folder, source, device, precision)
    from spikeclip.teacher.clip import PADDING, ClipTeacher
    from spikeclip.teacher.sentence import SentenceTeacher

    folder = found.folder
    if (folder / "modules.json").is_file():
        return SentenceTeacher(folder, source, device, precision)
    config = read_json(folder / "config.json", default={})
    kind = str(config.get("model_type"))
    if kind in PADDING:
        return ClipTeacher(folder, source, device, precision)
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_encoder_decoder"):
        return SentenceTeacher(folder, source, device, precision)
    raise InputError(
        f"{source}: cannot teach with a model of type {kind!r}; it must be clip, siglip, a text encoder such as bert, "
        "a sentence-transformers folder, a saved network of spikeclip, an image network (efficientnet-lite0), or an "
        ".npz table"
    )
