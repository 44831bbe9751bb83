"""Zero-shot classification when the candidate names change: expanded and unseen label sets (SpikeCLIP's ELS and ULS).

Pictures and names are embedded once; every curve is a choice of columns of one similarity matrix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spikeclip.data.prompts import load_prompts, text_key
from spikeclip.data.readers.listing import json_of
from spikeclip.errors import InputError, first_line
from spikeclip.evaluate.statistics import Point, point
from spikeclip.evaluate.zero_shot import zero_shot_metrics
from spikeclip.files import read_lines

_NAMES = Path(__file__).with_name("label_sets.json")
_STEPS = 10  # of the curve over replaced names


def load_distractors(source: str | None = None) -> list[str]:
    """Return names to add to a label set: common nouns, a data set's ("cifar100"), or a text file's, one a line.

    Raises `InputError` where there is no such set or file.
    """
    if source is None:
        return json.loads(_NAMES.read_text(encoding="utf-8"))["distractors"]
    return read_lines(Path(source)) if source.endswith(".txt") else load_prompts(source).classnames


def load_near_names(file: str | Path | None = None) -> dict[str, list[str]]:
    """Return for class names the names that may replace them: ours, or those of a JSON file {"horse": ["zebra"]}.

    Raises `InputError` for a file that does not fit.
    """
    if file is None:
        return json.loads(_NAMES.read_text(encoding="utf-8"))["near"]
    try:
        near = json_of(Path(file).expanduser().read_bytes(), str(file))
    except OSError as error:
        raise InputError(f"{file}: the near names cannot be read ({first_line(error)})") from error
    lists = list(near.values()) if isinstance(near, dict) else [None]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise InputError(f'{file}: expected lists of names by class, such as {{"horse": ["zebra", "pony"]}}')
    return near


def distractors_of(classnames: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names that share no word with a class name: "hot dog" is no fair distractor for "dog".

    Raises `InputError` where none is left.
    """
    words = {word for name in classnames for word in text_key(name).split()}
    left = [name for name in dict.fromkeys(map(text_key, names)) if not words & set(name.split())]
    if not left:
        raise InputError(f"each of the {len(names)} distractors shares a word with a class name")
    return left


def near_names_of(classnames: Sequence[str], near: Mapping[str, Sequence[str]]) -> dict[int, list[str]]:
    """Return by label the names that may replace a class: none that is a class itself.

    Raises `InputError` where no class has one.
    """
    classes = {text_key(name) for name in classnames}
    known = {text_key(name): [text_key(other) for other in others] for name, others in near.items()}
    found = {
        label: [other for other in known.get(text_key(name), []) if other not in classes]
        for label, name in enumerate(classnames)
    }
    found = {label: others for label, others in found.items() if others}
    if not found:
        raise InputError(
            f"no near names for {', '.join(list(classnames)[:3])}, ...: name a JSON file with them (--near)"
        )
    return found


def expanded_labels(
    images_ND: np.ndarray,
    labels_N: np.ndarray,
    classes_KD: np.ndarray,
    distractors_MD: np.ndarray,
    seeds: int,
) -> list[Point]:
    """Return the accuracy among the K classes and n of the M distractors, for n = 0, 1, 2, 4, ... M.

    A seed draws an order in which distractors come. Embeddings are of unit length.
    """
    images_ND, labels_N, classes_KD, distractors_MD = map(
        np.asarray, (images_ND, labels_N, classes_KD, distractors_MD)
    )
    class_NK = images_ND @ classes_KD.T
    best_N, right_N = class_NK.max(1), class_NK.argmax(1) == labels_N
    others_NM = images_ND @ distractors_MD.T
    total = len(distractors_MD)
    counts = [2**i for i in range(total.bit_length()) if 2**i < total] + [total]
    points = [point(0, [_share(right_N)])]
    orders = [np.random.default_rng(seed).permutation(total) for seed in range(seeds)]
    for count in counts:
        kept = [right_N & (others_NM[:, order[:count]].max(1) <= best_N) for order in orders]
        points.append(point(count, [_share(right_N) for right_N in kept[: 1 if count == total else None]]))
    return points


def unseen_labels(
    images_ND: np.ndarray,
    labels_N: np.ndarray,
    classes_KD: np.ndarray,
    near: Mapping[int, Sequence[str]],
    embeddings: Mapping[str, np.ndarray],
    seeds: int,
) -> tuple[list[Point], list[Point]]:
    """Return the accuracy when k class names are replaced, on all pictures and on those of the replaced classes.

    A picture of a replaced class counts as right when the replacement wins. near: names by label, as from
    `near_names_of`; embeddings: (D,) of each of them, unit length. A seed draws which classes are replaced first,
    and by which of their names; no name stands for two classes.
    """
    images_ND, labels_N, classes_KD = map(np.asarray, (images_ND, labels_N, classes_KD))
    class_NK = images_ND @ classes_KD.T
    draws = [_draw(near, seed) for seed in range(seeds)]
    most = min(map(len, draws))
    counts = sorted(
        {round(i * most / _STEPS) for i in range(_STEPS + 1)} if most > _STEPS else range(most + 1)
    )
    everywhere, replaced = [], []
    for count in counts:
        rights, inside = [], []
        for draw in draws[: None if count else 1]:
            columns_NK, taken = class_NK.copy(), list(draw)[:count]
            for label in taken:
                columns_NK[:, label] = images_ND @ np.asarray(embeddings[draw[label]])
            right_N = columns_NK.argmax(1) == labels_N
            rights.append(_share(right_N))
            if taken:
                inside.append(_share(right_N[np.isin(labels_N, taken)]))
        everywhere.append(point(count, rights))
        if count:
            replaced.append(point(count, inside))
    return everywhere, replaced


def open_vocabulary(
    images_ND: np.ndarray, labels_N: np.ndarray, classes_KD: np.ndarray, withheld: Sequence[int]
) -> dict[str, float]:
    """Return the accuracy on classes that training saw and on the labels `withheld` from it, each among all K classes.

    `harmonic_mean` is that of both (Xian et al., arXiv 1707.00600); `acc1_withheld_names` is the accuracy on the
    withheld classes among their names alone. Raises `InputError` for none withheld, or pictures of one kind alone.
    """
    images_ND, labels_N, classes_KD = map(np.asarray, (images_ND, labels_N, classes_KD))
    unseen = np.array(sorted(withheld), np.int64)
    new_N = np.isin(labels_N, unseen)
    if not len(unseen):
        raise InputError(
            "no classes were withheld from training: name them (--withheld), or train with data.withhold"
        )
    if new_N.all() or not new_N.any():
        raise InputError("the split needs pictures of withheld classes and of others")
    new_ND, new_labels_N = images_ND[new_N], labels_N[new_N]
    acc_seen = zero_shot_metrics(images_ND[~new_N], labels_N[~new_N], classes_KD)["acc1"]
    acc_unseen = zero_shot_metrics(new_ND, new_labels_N, classes_KD)["acc1"]
    among = zero_shot_metrics(new_ND, np.searchsorted(unseen, new_labels_N), classes_KD[unseen])["acc1"]
    both = acc_seen + acc_unseen
    return {
        "acc1_seen": acc_seen,
        "acc1_withheld": acc_unseen,
        "harmonic_mean": 2 * acc_seen * acc_unseen / both if both else 0.0,
        "acc1_withheld_names": among,
    }


def _draw(near: Mapping[int, Sequence[str]], seed: int) -> dict[int, str]:
    """Replacements by label, in the order in which they come."""
    rng = np.random.default_rng(seed)
    drawn: dict[int, str] = {}
    for label in rng.permutation(list(near)).tolist():
        free = [name for name in near[label] if name not in drawn.values()]
        if free:
            drawn[label] = free[rng.integers(len(free))]
    return drawn


def _share(right_N: np.ndarray) -> float:
    return float(right_N.mean())
