"""Class names and prompt templates, kept as data: one JSON file per data set, names in its label order."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spikeclip.data.pictures import Pictures
from spikeclip.data.readers.listing import CLASSNAMES_FILE, json_of, listed, name_lines, plain_text
from spikeclip.errors import InputError, unknown

TEMPLATES_FILE = "zeroshot_classification_templates.txt"

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Prompts:
    """Class names in label order and templates with {c}. hash: of both, part of every result.

    ids: what the source may call the classes, in the same order (WordNet ids); empty where there are none.
    """

    classnames: list[str]
    templates: list[str]
    hash: str
    ids: list[str] = field(default_factory=list)


def load_prompts(name: str) -> Prompts:
    """Return the class names and templates of a data set by name ("cifar10"), or from a file or a folder.

    The file is JSON with {"classnames": [...], "templates": [...]}. The folder is laid out as CLIP_benchmark's:
    classnames.txt and zeroshot_classification_templates.txt, one a line. Raises `InputError` for an unknown name
    or files that do not fit.
    """
    known = sorted(file.stem for file in _FOLDER.glob("*.json"))
    path = _FOLDER / f"{name}.json" if name in known else Path(name).expanduser()
    if path.suffix != ".json" and not path.is_dir():
        raise unknown("prompts", name, known)
    try:
        content = _read_folder(path) if path.is_dir() else json_of(path.read_bytes(), str(path))
        lists = [content["classnames"], content["templates"], content.get("ids", [])]
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: expected JSON with classnames and templates ({error})") from None
    if not all(isinstance(part, list) and all(isinstance(text, str) for text in part) for part in lists):
        raise InputError(f"{path}: classnames and templates must be lists of texts, names in quotes")
    classnames, templates, ids = ([plain_text(text) for text in part] for part in lists)
    build_prompts(classnames, templates)
    return Prompts(classnames, templates, prompts_hash(classnames, templates), ids)


def with_classnames(pictures: Pictures, name: str) -> Pictures:
    """Return pictures with the class names of `load_prompts(name)` in place of those they have.

    Raises `InputError` where the number of classes differs, or where a name has another place than in the
    data: every label would then mean another class. Names of the data are compared without case and "_", a
    WordNet synset by its first word; names that occur twice there, or not at all here, are not compared. A bare
    number is compared with its place. Warns where no name at all can be compared.
    """
    prompts = load_prompts(name)
    old, new = pictures.classnames, prompts.classnames
    if len(old) != len(new):
        raise InputError(f"prompts {name!r} have {len(new)} classes, {pictures.name} has {len(old)}")
    keys = [_key(name) for name in old]
    places = {_key(key): i for keys in (prompts.ids, new) for i, key in enumerate(keys)}
    for i, key in enumerate(keys):
        if places.get(key, i) != i and keys.count(key) == 1:
            raise InputError(
                f"prompts {name!r} name the classes of {pictures.name} in another order: label {i} is "
                f"{old[i]!r} in the data and {new[i]!r} in the prompts"
            )
    numbers = [int(key) if re.fullmatch(r"[0-9]{1,9}", key) else None for key in keys]
    if None not in numbers and not places.keys() & set(keys):
        if numbers not in ([*range(len(old))], [*range(1, len(old) + 1)]):
            raise InputError(
                f"{pictures.name} numbers its classes {listed(old, 5)}: label by label these are not the names of "
                f"prompts {name!r}, {listed(new, 5)}; give the folders or names.json the names themselves"
            )
    elif not places.keys() & set(keys):
        warnings.warn(
            f"no class of {pictures.name} ({listed(old)}) is among the names of prompts {name!r} ({listed(new)}): "
            "they are taken label by label, so check that they stand in the same order",
            stacklevel=2,
        )
    if old == new:
        return pictures
    digest = hashlib.sha256(json.dumps([pictures.fingerprint, new]).encode()).hexdigest()
    return dataclasses.replace(pictures, classnames=new, fingerprint=digest)


def build_prompts(classnames: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Return one list of texts per class: each template with the class name for {c}, "_" read as a space.

    Raises `InputError` when there is nothing to build from or a template lacks {c}. Warns of names that say nothing.
    """
    if isinstance(classnames, str) or isinstance(templates, str) or not classnames or not templates:
        raise InputError("prompts need a list of class names and a list of templates, neither empty")
    for text in [*classnames, *templates]:
        if not isinstance(text, str):
            raise InputError(f"class names and templates are texts, got {text!r}: write it in quotes")
    _warn_of_codes(classnames, templates)
    for template in templates:
        if "{c}" not in template:
            raise InputError(f"template {template!r} lacks {{c}}, the place of the class name")
    return [
        [template.replace("{c}", name.replace("_", " ")) for template in templates] for name in classnames
    ]


def _warn_of_codes(classnames: Sequence[str], templates: Sequence[str]) -> None:
    """Warn of names that are bare numbers, but for templates that ask for one, or WordNet ids."""
    numbers = r"" if any(re.search("number|digit|figure", text) for text in templates) else r"[0-9]+|"
    codes = [name for name in classnames if re.fullmatch(rf"{numbers}n[0-9]{{8}}", name.strip())]
    if codes:
        warnings.warn(
            f"{len(codes)} of {len(classnames)} class names are numbers or WordNet ids ({listed(codes)}), which say "
            "nothing of a picture: give the classes words (data.classnames in a recipe, --rename elsewhere)",
            stacklevel=1,  # one place, so that it is said once
        )


def text_key(text: str) -> str:
    """Return what equal texts and class names have in common: lower case, "_" read as a space."""
    return text.replace("_", " ").lower()


def prompts_hash(classnames: Sequence[str], templates: Sequence[str]) -> str:
    """Return a hash of class names and templates, in their order."""
    return hashlib.sha256(json.dumps([list(classnames), list(templates)]).encode()).hexdigest()


def _read_folder(folder: Path) -> dict[str, list[str]]:
    files = {"classnames": CLASSNAMES_FILE, "templates": TEMPLATES_FILE}
    return {key: name_lines(folder / file) for key, file in files.items()}


def _key(name: str) -> str:
    return name.split(",")[0].replace("_", " ").strip().lower()
