"""A few pictures of each class, drawn by a seed."""

from __future__ import annotations

import numpy as np

SHOTS = (1, 2, 4, 8, 16)
HELD_SHOTS = 4
"""Most pictures of a class to select by, where as many or more are learned from."""


def draw_shots(labels_N: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return the places of `most` pictures of every class that occurs, a class a row, in random order.

    The first k of a row are its k shots, so fewer are among more. A row is as long as the smallest class allows.
    """
    labels_N = np.asarray(labels_N)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(np.flatnonzero(labels_N == label)) for label in np.unique(labels_N)]
    shortest = min([most, *map(len, orders)])
    return np.stack([order[:shortest] for order in orders])
