"""Nouns by how often they are used, what they mean and what else is called so: word lists that packages ship."""

from __future__ import annotations

import csv
import gzip
from importlib.util import find_spec
from pathlib import Path

from spikeclip.errors import InputError

INSTALL = "pip install wordfreq, and pip install --no-deps timm lemminflect"
_LONGEST = 5


def synonyms() -> dict[str, list[str]]:
    """Return the nouns of each of ImageNet's 21,844 synsets by its WordNet id, lower case, the usual one first.

    They are WordNet's (WordNet licence), as timm (Apache-2.0) ships them. Raises `InputError` where timm is not there.
    """
    return {
        key: [name.strip().lower() for name in names.split(",")]
        for key, names in _table("imagenet_synset_to_lemma.txt")
    }


def meanings(longest: int = _LONGEST) -> list[str]:
    """Return what WordNet says of the synsets in at most `longest` words, such as "an inexpensive fipple flute"."""
    texts = (
        text.partition(";")[0].strip().lower() for _, text in _table("imagenet_synset_to_definition.txt")
    )
    return list(dict.fromkeys(text for text in texts if 2 < len(text.split()) <= longest))


def frequent_nouns(count: int) -> list[str]:
    """Return `count` English nouns, lower case: most are of things that can be seen, the most frequent ones first.

    Two thirds are names of ImageNet's synsets, the rest what lemminflect (MIT; the SPECIALIST lexicon) knows as a noun;
    wordfreq (Apache-2.0; data CC BY-SA 4.0) says how often they are used. Raises `InputError` where a package is
    missing, and for more nouns than there are.
    """
    things = {name for names in synonyms().values() for name in names if "-" not in name}
    seen = _most_frequent(things, count * 2 // 3)
    others = _lexicon() - things
    found = [*seen, *_most_frequent(others, count - len(seen))]
    if len(found) < count:
        raise InputError(f"the word lists hold {len(found)} nouns, fewer than the {count} asked for")
    return found


def _most_frequent(nouns: set[str], count: int) -> list[str]:
    try:
        from wordfreq import zipf_frequency  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise _missing("wordfreq") from None
    often = {noun: zipf_frequency(noun, "en") for noun in nouns}
    return sorted(often, key=lambda noun: (-often[noun], noun))[:count]


def _lexicon() -> set[str]:
    file = _folder("lemminflect") / "resources" / "infl_lu.csv.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [row[:2] for row in csv.reader(lines)]
    return {
        word for word, kind in rows if kind == "noun" and word.isalpha() and word.islower() and len(word) > 2
    }


def _table(name: str) -> list[list[str]]:
    text = (_folder("timm") / "data" / "_info" / name).read_text(encoding="utf-8")
    return [line.split("\t", 1) for line in text.splitlines()]


def _folder(package: str) -> Path:
    """The folder of an installed package, which is not imported: its own requirements need not be there."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise _missing(package)
    return Path(found.submodule_search_locations[0])


def _missing(package: str) -> InputError:
    return InputError(f"the word lists of {package} are not installed: {INSTALL}")
