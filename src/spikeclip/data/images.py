"""Pictures of one or several arrays, seen through an index: subsets and joined sets copy no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Images:
    """A row of pictures (N, H, W, 3), or event recordings (N, H, W, 2) or (N, H, W, T, 2), uint8.

    It holds `sources`, arrays of equal shape behind the first axis and possibly memory-mapped, and the place in them
    of each picture. Pixels are copied only when they are read, and only those that are read; a slice of one whole
    array is not copied at all. `np.asarray(images)` gives all of them: for small sets.

    sources: at least one array. index: places (N,) int64 in all sources, one after the other; None for every
    picture in order. Raises `ValueError` for arrays that do not fit each other.
    """

    def __init__(self, sources: Sequence[np.ndarray], index: np.ndarray | None = None) -> None:
        self.sources = tuple(sources)
        first = self.sources[0]
        if any((other.shape[1:], other.dtype) != (first.shape[1:], first.dtype) for other in self.sources):
            found = ", ".join(f"{source.dtype} {source.shape}" for source in self.sources)
            raise ValueError(f"expected arrays of one type and one shape behind the first axis, got {found}")
        self._starts = np.cumsum([0, *map(len, self.sources)])
        self._one_array = index is None and len(self.sources) == 1
        self._index = np.arange(self._starts[-1]) if index is None else index

    @staticmethod
    def join(parts: Sequence[Images]) -> Images:
        """Return the pictures of several parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *(part._starts[-1] for part in parts[:-1])])
        index = np.concatenate([part._index + start for part, start in zip(parts, starts, strict=True)])
        return Images([source for part in parts for source in part.sources], index)

    def subset(self, indices: np.ndarray | Sequence[int]) -> Images:
        """Return the pictures at `indices`: (K,) integers from -N to N - 1, or (N,) booleans."""
        return Images(self.sources, self._places(indices))

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self._index), *self.sources[0].shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return self.sources[0].dtype

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return one picture (H, W, ...) for an integer, else an array of pictures (K, H, W, ...).

        key: an integer, a slice, integers (K,) or booleans (N,), as NumPy has them: negative ones count from the
        end. Raises `IndexError` for a place that does not exist, and for other keys.
        """
        if self._one_array and isinstance(key, slice):
            return self.sources[0][key]
        places = self._places(key)
        if places.ndim == 0:
            source = int(np.searchsorted(self._starts, places, side="right")) - 1
            return self.sources[source][int(places - self._starts[source])]
        if len(self.sources) == 1:
            return np.take(self.sources[0], places, axis=0)
        return self._gather(places)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if not self._one_array:
            if copy is False:
                raise ValueError("pictures that are chosen by an index cannot become an array without a copy")
            copy = None  # reading them is a copy already
        return np.array(self[:], dtype, copy=copy)  # type: ignore[call-overload]  (None needs NumPy's newer stubs)

    def _places(self, key: Any) -> np.ndarray:
        places = self._index[key]
        if places.ndim > 1:
            raise IndexError(
                f"expected an integer, a slice, or one axis of integers or booleans, got {key!r}"
            )
        return places

    def _gather(self, places: np.ndarray) -> np.ndarray:
        images = np.empty((len(places), *self.shape[1:]), self.dtype)
        owners = np.searchsorted(self._starts, places, side="right") - 1
        for owner in np.unique(owners):
            rows = owners == owner
            images[rows] = np.take(self.sources[owner], places[rows] - self._starts[owner], axis=0)
        return images
