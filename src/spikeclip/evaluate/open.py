"""Opening whatever can be evaluated: one of our models or a teacher."""

from __future__ import annotations

import json
from pathlib import Path

from spikeclip.errors import InputError
from spikeclip.model import SpikeCLIP, from_pretrained
from spikeclip.pretrained.resolve import model_folder
from spikeclip.teacher import Teacher, open_teacher


def open_model(source: str | Path) -> SpikeCLIP | Teacher:
    """Load a saved SpikeCLIP, or a teacher where config.json does not say model_type "spikeclip".

    source: a folder, a name on the Hugging Face hub, or a teacher's .npz table. A run's folder stands for the
    model in it. Raises `InputError` where there is nothing of the kind.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        folder = model_folder(folder)
        return from_pretrained(folder) if _is_ours(folder / "config.json") else open_teacher(folder)
    if folder.suffix == ".npz" or folder.exists() or not _hub_name(str(source)):
        return open_teacher(source)
    from huggingface_hub import hf_hub_download

    try:
        config = Path(hf_hub_download(str(source), "config.json"))
    except Exception as error:  # no network, no such name, no permission: the hub has many exceptions
        raise InputError(
            f"no such folder: {source} (and no model of that name could be fetched from the Hugging Face hub)"
        ) from error
    return from_pretrained(source) if _is_ours(config) else open_teacher(source)


def image_size(model: SpikeCLIP | Teacher) -> int:
    """Return the side of the pictures that a model reads, pixels; `InputError` for a text-only teacher."""
    if isinstance(model, SpikeCLIP):
        return model.config.image.image_size
    if not model.has_images:
        raise InputError(f"{model.name} embeds text only; this needs a model that embeds pictures too")
    return model.transform.image_size  # type: ignore[attr-defined]


def event_frames(model: SpikeCLIP | Teacher) -> int | None:
    """Return the frames that a model reads of an event recording, None where it reads pictures."""
    return model.config.image.event_frames if isinstance(model, SpikeCLIP) else None


def _hub_name(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~"))


def _is_ours(config: Path) -> bool:
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the loader of a teacher says what is wrong with it
        return False
    return isinstance(values, dict) and values.get("model_type") == "spikeclip"
