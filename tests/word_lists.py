"""Packages like those that ship word lists, with a few words: folders to be found as timm, lemminflect, wordfreq."""

from __future__ import annotations

import gzip
from pathlib import Path

LEMMAS = {
    "n1": "robin, redbreast, Erithacus rubecola",
    "n2": "jay",
    "n3": "crane",
    "n4": "crane",
    "n5": "kettle, tea-kettle",
    "n6": "sky",
}
MEANINGS = {
    "n1": "small Old World songbird",
    "n2": "crested largely blue bird",
    "n3": "large long-necked wading bird of marshes and plains in many parts of the world",
    "n5": "a metal pot; has a lid",
}
NOUNS = ["music", "Aachen", "sky", "tea", "of"]
FREQUENT = {"sky": 5.1, "music": 5.6, "tea": 4.9, "crane": 3.9, "robin": 4.2, "kettle": 3.5, "jay": 4.4}


def ship_words(root: Path) -> Path:
    """Write the packages into a folder that is to be on the path of modules, and return it."""
    info = root / "timm" / "data" / "_info"
    info.mkdir(parents=True)
    (root / "timm" / "__init__.py").write_text("raise ImportError('torchvision')\n")
    for name, table in (("lemma", LEMMAS), ("definition", MEANINGS)):
        lines = "".join(f"{key}\t{text}\n" for key, text in table.items())
        (info / f"imagenet_synset_to_{name}.txt").write_text(lines)
    resources = root / "lemminflect" / "resources"
    resources.mkdir(parents=True)
    (root / "lemminflect" / "__init__.py").touch()
    rows = "".join(f"{noun},noun,{noun}s\n" for noun in NOUNS) + "quick,adj,quicker,quickest\n"
    (resources / "infl_lu.csv.gz").write_bytes(gzip.compress(rows.encode()))
    code = f"def zipf_frequency(word, lang):\n    return {FREQUENT!r}.get(word, 0.0)\n"
    (root / "wordfreq.py").write_text(code)
    return root
