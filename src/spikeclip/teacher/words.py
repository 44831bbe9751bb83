"""A table that teaches a text tower common words: real embeddings, class prototypes and estimates, one space."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikeclip.data.nouns import frequent_nouns, meanings, synonyms
from spikeclip.data.prompts import load_prompts, text_key
from spikeclip.encode.vectors import unit
from spikeclip.errors import InputError
from spikeclip.files import replacing
from spikeclip.teacher.base import Teacher
from spikeclip.teacher.bridge import fit_bridge
from spikeclip.teacher.cache import cached_text_embeddings

TEMPLATES = [
    "a {c}",
    "a photo of a {c}.",
    "{c}",
    "a photo of the {c}.",
    "a picture of a {c}",
    "the {c}",
    "a photo of a small {c}.",
    "a photo of a large {c}.",
    "a close-up photo of a {c}.",
    "a blurry photo of a {c}.",
    "this is a {c}",
    "itap of a {c}.",
    "a photo of my {c}.",
    "a good photo of the {c}.",
    "a bad photo of a {c}.",
    "a {c} in the picture",
]
"""All of one name have one place: a prompt is to find the pictures of what it names. The first is always taught."""
SHARE = 0.5
LENGTH = 0.25
"""A class has its place between the centred directions of its name, as estimated, and of its prototype (share of that),
this part of a real text's length from the mean of all. Then prototypes are as near to their names (cosine 0.32) as to
the real texts of other classes (0.33); with 0.5 such names take the pictures of all others. Prototypes of the 1,000
classes told apart: 0.42 without prototypes, 0.90 with."""


@dataclass(frozen=True)
class Names:
    """Names or texts of one source. rows_ND: their places, any length. templates: how many prompts teach each."""

    source: str
    names: list[str]
    rows_ND: np.ndarray
    templates: int


def word_table(
    teacher: Teacher,
    encoder: Teacher,
    out: Path,
    cache: Path,
    *,
    count: int = 20_000,
    texts: Sequence[str] = (),
    held: float = 0.1,
) -> dict[str, int]:
    """Write the table `out` (.npz, layout of `TableTeacher`) of names and short texts in the space of `teacher`.

    teacher: tables of texts "a NOUN" and, if they hold any, of class prototypes by WordNet id. encoder: a sentence
    encoder, whose space is mapped into theirs over those nouns. Sources are `nouns`, the teacher's; `classes`, all
    names of the classes with a prototype; `words`, `count` frequent nouns; `captions`, short meanings of nouns and
    `texts`. A name is in the first source that has it. held: share of the names of every source that training is to
    hold out, by their hash, so that two tables hold out the same; they are no part of the map either. Returns the
    number of names by source. Raises `InputError` for a teacher that is no table of nouns, and where a word list is
    missing.
    """
    prefix = TEMPLATES[0].replace("{c}", "")
    known = [text for text in teacher.texts or [] if text.startswith(prefix)]
    learned = [text for text in known if not is_held(text.removeprefix(prefix), held)]
    if len(learned) < 2:
        raise InputError(
            f"{teacher.name} holds {len(learned)} texts such as 'a dog' to learn from; two are needed"
        )
    out.parent.mkdir(parents=True, exist_ok=True)

    def embed(names: Iterable[str]) -> np.ndarray:
        return np.asarray(cached_text_embeddings(encoder, list(names), cache), np.float32)

    bridge = fit_bridge(embed(learned), teacher.encode_text(learned))
    nouns = [text.removeprefix(prefix) for text in known]
    parts = [Names("nouns", nouns, teacher.encode_text(known), 8)]
    prototypes = _prototypes(teacher, set(nouns))
    if prototypes:
        names_ND = bridge(embed(prefix + name for name in prototypes))
        real_ND = teacher.encode_text(learned)
        rows_ND = _between(names_ND, np.stack(list(prototypes.values())), real_ND)
        parts.append(Names("classes", list(prototypes), rows_ND, 5))
    taken = {*nouns, *prototypes}
    words = [name for name in frequent_nouns(count) if name not in taken]
    parts.append(Names("words", words, bridge(embed(prefix + name for name in words)), 1))
    captions = list(dict.fromkeys([*meanings(), *map(text_key, texts)]))
    parts.append(Names("captions", captions, bridge(embed(captions)), 0))
    with replacing(out) as file:
        np.savez(file, **_columns(parts, held), logit_scale=np.array(teacher.logit_scale))  # type: ignore[arg-type]
    return {part.source: len(part.names) for part in parts}


def is_held(name: str, share: float) -> bool:
    """Return whether a name is among the `share` of all names that is held out, by its hash alone."""
    return int.from_bytes(hashlib.sha256(text_key(name).encode()).digest()[:4], "big") < share * 2**32


def _prototypes(teacher: Teacher, nouns: set[str]) -> Mapping[str, np.ndarray]:
    """Return the prototype (D,) of every name of the classes that have one; a name of several has their mean."""
    called = {key: list(names) for key, names in synonyms().items()}
    ours = load_prompts("imagenet1k")
    for key, name in zip(ours.ids, ours.classnames, strict=True):
        called.setdefault(key, []).append(text_key(name))
    found_KD = teacher.find_classes([[key] for key in called])
    rows: dict[str, list[np.ndarray]] = {}
    for names, row in zip(called.values(), found_KD, strict=True):
        for name in dict.fromkeys(names):
            if np.isfinite(row).all() and name not in nouns:
                rows.setdefault(name, []).append(row)
    return {name: np.mean(group, 0) for name, group in rows.items()}


def _between(names_ND: np.ndarray, prototypes_ND: np.ndarray, real_ND: np.ndarray) -> np.ndarray:
    """Return the places of classes from estimates of their names and from their prototypes; see `LENGTH`."""
    mean_D = real_ND.mean(0)
    length = LENGTH * np.linalg.norm(real_ND - mean_D, axis=1).mean()
    towards_ND = unit(prototypes_ND - prototypes_ND.mean(0))
    return mean_D + length * unit((1 - SHARE) * unit(names_ND - mean_D) + SHARE * towards_ND)


def _columns(parts: Sequence[Names], held: float) -> dict[str, np.ndarray]:
    """The arrays of a table: every name in its prompts, the k-th in the first and others from the k-th on."""
    texts: list[str] = []
    rows: list[np.ndarray] = []
    groups: list[str] = []
    marks: list[bool] = []
    for part in parts:
        others = TEMPLATES[1:]
        for k, (name, row_D) in enumerate(
            zip(part.names, unit(part.rows_ND).astype(np.float16), strict=True)
        ):
            mark = is_held(name, held)
            count = 1 if mark else part.templates
            chosen = [TEMPLATES[0], *(others[(k + i) % len(others)] for i in range(count - 1))]
            prompts = [template.replace("{c}", name) for template in chosen] if part.templates else [name]
            texts += prompts
            rows += [row_D] * len(prompts)
            groups += [part.source] * len(prompts)
            marks += [mark] * len(prompts)
    return {
        "texts": np.array(texts),
        "text_embeddings": np.stack(rows),
        "groups": np.array(groups),
        "held": np.array(marks),
    }
