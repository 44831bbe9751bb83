"""A table of text embeddings made elsewhere as a teacher."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spikeclip.errors import InputError, first_line
from spikeclip.teacher.base import Teacher


class TableTeacher(Teacher):
    """A table of text embeddings: `embeddings` with `texts`, or with `names` (and `raw_name`, `unique`).

    With names, the text that was embedded is "a {raw_name}"; texts are found by it, by raw_name and by name.
    Upper and lower case are one, as they are to CLIP's tokenizer.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such table of text embeddings")
        try:
            with np.load(path, allow_pickle=False) as table:
                columns = {
                    k: table[k] for k in ("embeddings", "texts", "names", "raw_name", "unique") if k in table
                }
        except Exception as error:  # a damaged archive raises whatever zipfile or NumPy's header parser met
            raise InputError(f"{path}: not a readable .npz table ({first_line(error)})") from error
        if "embeddings" not in columns or not columns.keys() & {"texts", "names"}:
            raise InputError(
                f"{path}: expected arrays `embeddings` and `texts` (or `names`), got {sorted(columns)}"
            )
        self.name = path.name
        self.fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
        rows_ND = columns["embeddings"].astype(np.float32)
        self._rows_ND = rows_ND / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-12)
        self.dim = rows_ND.shape[1]
        names = [str(t).lower() for t in columns.get("texts", columns.get("names"))]  # type: ignore[union-attr]
        raw = [str(t).lower() for t in columns.get("raw_name", names)]
        prompts = names if "texts" in columns else [f"a {r}" for r in raw]
        if not len(names) == len(raw) == len(rows_ND):
            raise InputError(f"{path}: {len(rows_ND)} embeddings, but {len(names)} texts")
        first = np.flatnonzero(columns["unique"]) if "unique" in columns else np.arange(len(names))
        self.texts = list(dict.fromkeys(prompts[i] for i in first))
        self._row: dict[str, int] = {}
        for keys in (
            prompts,
            raw,
            names,
        ):  # an exact prompt wins over a name, a unique row over a repeated one
            for i in (*first, *range(len(names))):
                self._row.setdefault(keys[i], int(i))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Look texts up -> (N, dim). Raises `InputError` that names what the table does not hold."""
        absent = [t for t in dict.fromkeys(texts) if t.lower() not in self._row]
        if absent:
            shown = [repr(t) + _near(t, self._row) for t in absent[:5]] + ["..."] * (len(absent) > 5)
            raise InputError(
                f"{self.name} has no embedding of {len(absent)} of the texts: {', '.join(shown)}. A table "
                f"embeds only the prompts and names that it holds, such as {next(iter(self._row))!r}"
            )
        return self._rows_ND[[self._row[t.lower()] for t in texts]]


def _near(text: str, known: dict[str, int]) -> str:
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.6)
    return f" (near: {near[0]!r})" if near else ""
