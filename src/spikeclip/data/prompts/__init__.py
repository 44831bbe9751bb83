"""Class names and prompt templates, kept as data: one JSON file per data set, names in its label order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spikeclip.errors import InputError, unknown

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Prompts:
    """Class names in label order and templates with {c}. hash: of both; it belongs into every result."""

    classnames: list[str]
    templates: list[str]
    hash: str


def load_prompts(name: str) -> Prompts:
    """Return the class names and templates of a data set by name ("cifar10"), or from a .json file.

    The file holds {"classnames": [...], "templates": [...]}. Raises `InputError` for an unknown name or
    a file that does not fit.
    """
    if name.endswith(".json"):
        path = Path(name).expanduser()
    else:
        known = sorted(file.stem for file in _FOLDER.glob("*.json"))
        if name not in known:
            raise unknown("prompts", name, known)
        path = _FOLDER / f"{name}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        classnames, templates = content["classnames"], content["templates"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected JSON with classnames and templates ({error})") from None
    build_prompts(classnames, templates)
    return Prompts(classnames, templates, prompts_hash(classnames, templates))


def build_prompts(classnames: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Return one list of texts per class: each template with the class name for {c}, "_" read as a space.

    Raises `InputError` when there is nothing to build from or a template lacks {c}.
    """
    if isinstance(classnames, str) or isinstance(templates, str) or not classnames or not templates:
        raise InputError("prompts need a list of class names and a list of templates, neither empty")
    for template in templates:
        if "{c}" not in template:
            raise InputError(f"template {template!r} lacks {{c}}, the place of the class name")
    return [
        [template.replace("{c}", name.replace("_", " ")) for template in templates] for name in classnames
    ]


def prompts_hash(classnames: Sequence[str], templates: Sequence[str]) -> str:
    """Return a hash of class names and templates, in their order."""
    return hashlib.sha256(json.dumps([list(classnames), list(templates)]).encode()).hexdigest()
