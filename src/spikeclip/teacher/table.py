"""Tables of embeddings made elsewhere as a teacher: of texts, of pictures by path, of classes by name."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import text_key
from spikeclip.data.readers.npz import load_arrays
from spikeclip.encode.encoder import text_list
from spikeclip.encode.vectors import unit
from spikeclip.errors import InputError, nearest
from spikeclip.teacher.base import Teacher

LAYOUTS = """`texts` with `text_embeddings`, `images` and `splits` with `image_embeddings`, `classes` with
`class_embeddings`; or `texts` or `names` with `embeddings`; `path` and `split` with `feature`; `wnid` and `name`
with `prototype`"""


@dataclass
class _Rows:
    """What tables hold, by what it is found by. Every row is (D,) float32 of unit length."""

    texts: list[str] = field(default_factory=list)
    text: dict[str, np.ndarray] = field(default_factory=dict)
    image: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)
    class_: dict[str, np.ndarray] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    held: set[str] | None = None
    logit_scale: float | None = None


class TableTeacher(Teacher):
    """Tables of embeddings of one space, combined; where several hold the same thing the first one counts.

    A table is an `.npz` with any of these groups of arrays (N rows, D dimensions, any float type):

        texts (N,), text_embeddings (N, D)                                 and if given their groups (N,) and whether
                                                                           they are held out of training, held (N,)
        images (N,), splits (N,), image_embeddings (N, D) or (N, A, D)     paths and splits as in the data set, and
                                                                           if given its name, sources (N,);
                                                                           A augmentations are averaged
        classes (N,), class_embeddings (N, D)                              class names or WordNet ids
        logit_scale ()                                                     of the teacher that made it

    Also read: `embeddings` with `texts`, or with `names` (and `raw_name`, `unique`), whose embedded text was
    "a {raw_name}"; `feature` with `path` and `split`; `prototype` with `wnid` and `name`. Upper and lower case
    are one, as they are to CLIP's tokenizer, and so are "_" and " ", as in class prompts.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._rows = _Rows()
        sizes = {}
        for path in paths:
            columns = _read(path)
            sizes[path.name] = _add(self._rows, columns, path)
        if len(set(sizes.values())) != 1:
            raise InputError(f"tables of one teacher need one dimension, got {sizes}")
        self.dim = next(iter(sizes.values()))
        self.name = "+".join(path.stem for path in paths)
        digest = hashlib.sha256()
        for path in paths:
            digest.update(path.read_bytes())
        self.fingerprint = digest.hexdigest()
        self.texts = list(dict.fromkeys(self._rows.texts))
        self.groups = self._rows.groups
        self.held = None if self._rows.held is None else frozenset(self._rows.held)
        self.logit_scale = self._rows.logit_scale or Teacher.logit_scale

    def knows(self, text: str) -> bool:
        """Whether `encode_text` has this text."""
        return text_key(text) in self._rows.text

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Look texts up -> (N, dim). Raises `InputError` that names what the table does not hold."""
        texts, known = text_list(texts), self._rows.text
        absent = [t for t in dict.fromkeys(texts) if not self.knows(t)]
        if absent:
            shown = [repr(t) + _near(t, known) for t in absent[:5]] + ["..."] * (len(absent) > 5)
            such = f", such as {next(iter(known))!r}" if known else ""
            raise InputError(
                f"{self.name} has no embedding of {len(absent)} of the texts: {', '.join(shown)}. A table embeds only "
                f"the texts that it holds{such}. In a recipe, rename classes to names that it holds (data.classnames: "
                "{automobile: car}), or let a sentence encoder estimate the others (teacher.encoder: "
                "sentence-transformers/all-MiniLM-L6-v2)"
            )
        return _stack([known[text_key(t)] for t in texts], self.dim)

    def find_images(self, pictures: Pictures) -> np.ndarray:
        """Look pictures up by source (where the table has it), split and path -> (N, dim), NaN where there is none."""
        rows, split = self._rows.image, pictures.split
        found = [rows.get((pictures.name, split, key), rows.get(("", split, key))) for key in pictures.ids]
        return _stack(found, self.dim)

    def find_classes(self, keys: Sequence[Sequence[str]]) -> np.ndarray:
        """Look classes up, each by the first of its keys that is known -> (K, dim), NaN where there is none."""
        rows = self._rows.class_
        found = [next((rows[k] for k in map(text_key, names) if k in rows), None) for names in keys]
        return _stack(found, self.dim)


def _stack(rows: Sequence[np.ndarray | None], dim: int) -> np.ndarray:
    out_ND = np.full((len(rows), dim), np.nan, np.float32)
    for i, row in enumerate(rows):
        if row is not None:
            out_ND[i] = row
    return out_ND


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        where = "" if path.is_absolute() else f" in {Path.cwd()}, from where a recipe's paths are followed"
        raise InputError(f"{path}: no such table of embeddings{where}")
    return load_arrays(path, "the table of embeddings")


def _add(rows: _Rows, columns: Mapping[str, np.ndarray], path: Path) -> int:
    """Add what a table holds to `rows`; what is there already stays. Returns its dimension."""
    dims = set()

    def take(name: str, *keys: str) -> tuple[np.ndarray, ...]:
        if columns[name].dtype.kind != "f":
            raise InputError(f"{path}: {name} holds {columns[name].dtype} where floats were expected")
        x = columns[name].astype(np.float32)
        if not np.isfinite(x).all():
            raise InputError(f"{path}: {name} holds values that are not finite")
        if x.ndim == 3 and x.shape[1] and name == "image_embeddings":
            x = unit(x).mean(1)
        for key in keys:
            if x.ndim != 2 or columns[key].shape != x.shape[:1]:
                raise InputError(
                    f"{path}: {name} of shape {x.shape}, but {key} of shape {columns[key].shape}"
                )
        if not (np.linalg.norm(x, axis=1) > 0).all():
            raise InputError(f"{path}: {name} holds a row of zeros, which has no direction")
        dims.add(x.shape[1])
        return (unit(x), *(columns[key].astype(str) for key in keys))

    if {"texts", "text_embeddings"} <= columns.keys():
        _add_texts(rows, *take("text_embeddings", "texts"))
        _add_marks(rows, columns, path)
    elif {"texts", "embeddings"} <= columns.keys():
        _add_texts(rows, *take("embeddings", "texts"))
    elif {"names", "embeddings"} <= columns.keys():
        raw = "raw_name" if "raw_name" in columns else "names"
        x_ND, names, raws = take("embeddings", "names", raw)
        unique = columns.get("unique", np.ones(len(names), bool))
        if unique.shape != names.shape or unique.dtype.kind not in "bui":
            raise InputError(
                f"{path}: {len(names)} names, but unique of shape {unique.shape} and {unique.dtype}"
            )
        _add_nouns(rows, x_ND, names, raws, unique)
    for embeddings, paths, splits in (("image_embeddings", "images", "splits"), ("feature", "path", "split")):
        if {embeddings, paths, splits} <= columns.keys():
            x_ND, keys, names = take(embeddings, paths, splits)
            sources = columns.get("sources", np.full(len(keys), ""))
            if sources.shape != keys.shape:
                raise InputError(f"{path}: {len(keys)} {paths}, but sources of shape {sources.shape}")
            for row, *key in zip(x_ND, sources, names, keys, strict=True):
                rows.image.setdefault(tuple(map(str, key)), row)  # type: ignore[arg-type]
    for embeddings, names in (("class_embeddings", "classes"), ("prototype", "wnid"), ("prototype", "name")):
        if {embeddings, names} <= columns.keys():
            _add_classes(rows, *take(embeddings, names))
    if "logit_scale" in columns:
        scale = columns["logit_scale"]
        if scale.size != 1 or scale.dtype.kind not in "fiu" or not np.isfinite(scale).all():
            raise InputError(
                f"{path}: logit_scale must be one number, got {scale.dtype} of shape {scale.shape}"
            )
        rows.logit_scale = rows.logit_scale or float(scale.item())
    if not dims:
        raise InputError(f"{path}: expected {LAYOUTS}; got {sorted(columns)}")
    if len(dims) != 1:
        raise InputError(f"{path}: its embeddings have different dimensions: {sorted(dims)}")
    return dims.pop()


def _add_texts(rows: _Rows, x_ND: np.ndarray, texts: np.ndarray) -> None:
    for row, text in zip(x_ND, map(text_key, map(str, texts)), strict=True):
        rows.text.setdefault(text, row)
        rows.texts.append(text)


def _add_marks(rows: _Rows, columns: Mapping[str, np.ndarray], path: Path) -> None:
    """What a table says of its texts; where several tables do, the first one counts."""
    texts = [text_key(str(text)) for text in columns["texts"]]
    for name, kind, expected in (("groups", "U", "texts"), ("held", "b", "true and false")):
        if name in columns and (columns[name].shape != (len(texts),) or columns[name].dtype.kind != kind):
            found = f"{columns[name].dtype} of shape {columns[name].shape}"
            raise InputError(
                f"{path}: {name} must be {expected}, one for each of {len(texts)} texts, got {found}"
            )
    for text, group in zip(texts, columns.get("groups", []), strict="groups" in columns):
        rows.groups.setdefault(text, str(group))
    if "held" in columns:
        held = {text for text, mark in zip(texts, columns["held"], strict=True) if mark}
        rows.held = held | (rows.held or set())


def _add_nouns(rows: _Rows, x_ND: np.ndarray, names: np.ndarray, raw: np.ndarray, unique: np.ndarray) -> None:
    """An exact prompt wins over a name, and a row that is marked unique over a repeated one."""
    order = [*np.flatnonzero(unique), *range(len(names))]
    prompts = [f"a {text_key(str(name))}" for name in raw]
    rows.texts += [prompts[i] for i in np.flatnonzero(unique)]
    for keys in (prompts, raw, names):
        for i in order:
            rows.text.setdefault(text_key(str(keys[i])), x_ND[i])


def _add_classes(rows: _Rows, x_ND: np.ndarray, names: np.ndarray) -> None:
    """A name that two rows share is ambiguous (ImageNet's two cranes) and is left out."""
    keys = [text_key(str(name)) for name in names]
    count = Counter(keys)
    for row, key in zip(x_ND, keys, strict=True):
        if count[key] == 1:
            rows.class_.setdefault(key, row)


def _near(text: str, known: Mapping[str, np.ndarray]) -> str:
    near = nearest(text, known)
    return f" (near: {near!r})" if near else ""
