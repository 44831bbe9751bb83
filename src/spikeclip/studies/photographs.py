"""What the model that comes with the package sees in photographs that other packages carry."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from spikeclip.defaults import MODEL
from spikeclip.encode.classify import classify
from spikeclip.open import open_encoder

LABELS = ["military uniform", "temple", "flower", "cat", "car", "pizza", "beach", "bicycle"]
_FILES = {
    "matplotlib": ["mpl-data/sample_data/grace_hopper.jpg"],  # public domain
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],  # CC BY
}


class Seen(NamedTuple):
    """The best label of a photograph, its softmax score among `LABELS`, and how long the answer took."""

    file: Path
    label: str
    score: float
    seconds: float


def photographs() -> list[Path]:
    """Return the photographs that installed packages carry."""
    found = []
    for package, files in _FILES.items():
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec is not None else []:
            found += [Path(folder) / file for file in files if (Path(folder) / file).is_file()]
    return found


def name_photographs() -> list[Seen]:
    """Name each photograph with the shipped model; the first answer holds the start of the engine, too."""
    seen, encoder = [], open_encoder(MODEL, "int8")
    for file in photographs():
        start = time.perf_counter()
        best = classify(encoder, [file], LABELS, top=1)[0][0]
        seen.append(Seen(file, best["label"], best["score"], time.perf_counter() - start))
    return seen
