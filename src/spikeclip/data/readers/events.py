"""Event recordings: N-MNIST as .npz files, summed into frames of two polarities."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spikeclip.data.readers.listing import Listing, Recording, names_of, plain_text, read_names
from spikeclip.data.readers.npz import load_arrays
from spikeclip.errors import InputError

SENSOR = 34
"""Rows and columns of N-MNIST's sensor."""
_BYTES = ("x", "y", "p", "dt_lo", "dt_hi")
_ARRAYS = (*_BYTES, "offsets", "label")


def count_events(recording: Recording, image_size: int, frames: int) -> np.ndarray | None:
    """Return how often each pixel fired, (H, W, 2) or for several frames (H, W, frames, 2), uint8; 255 is the most.

    The frames are equal parts of the recording's length. The sensor's pixels are cropped or surrounded by
    zeros, never resized. None for a recording that cannot be right: no events, or events outside the sensor.
    """
    x, y, p, dt = recording.x, recording.y, recording.p, recording.dt
    if not len(x) or max(x.max(), y.max()) >= SENSOR:
        return None
    t = dt.cumsum(dtype=np.int64)
    frame = t * frames // (t[-1] + 1)
    left = (SENSOR - image_size) // 2
    x, y = x.astype(np.int64) - left, y.astype(np.int64) - left
    inside = (x >= 0) & (x < image_size) & (y >= 0) & (y < image_size)
    place = (((y * image_size + x) * frames + frame) * 2 + p)[inside]
    counts = np.bincount(place, minlength=image_size * image_size * frames * 2).clip(max=255).astype(np.uint8)
    return counts.reshape(image_size, image_size, *([frames] if frames > 1 else []), 2)


def as_picture(image: np.ndarray) -> np.ndarray:
    """Return an image to look at, (H, W, 3) uint8: a picture as it is, of a recording the sum of its frames.

    Blue are pixels that became darker, red those that became brighter; the most active is brightest.
    """
    if image.shape[-1] == 3:
        return image
    counts_HW2 = image.reshape(*image.shape[:2], -1, 2).sum(2, dtype=np.float32)
    shown_HW2 = (255 * counts_HW2 / max(1, counts_HW2.max())).astype(np.uint8)
    return np.stack([shown_HW2[..., 1], shown_HW2.min(-1), shown_HW2[..., 0]], -1)


def event_splits(folder: Path) -> dict[str, list[Path]]:
    """Return the file of recordings of each split in `folder`, SPLIT.npz."""
    return {
        path.stem: [path] for path in sorted(folder.glob("*.npz")) if path.is_file() and _holds_events(path)
    }


def count_recordings(path: Path) -> int:
    """Return how many recordings a file holds."""
    return len(_read(path, ("label",))["label"])


def list_events(folder: Path, path: Path) -> Listing:
    """List the recordings of a file; class names as in names.json, else numbers.

    The file has the arrays x, y (uint8), p (bits, packed), dt_lo, dt_hi (bytes of the microseconds since the event
    before), offsets (recordings + 1), label and, if known, sample_id, which names the recordings. Raises
    `InputError` where one is missing or does not fit.
    """
    arrays = _read(path, _ARRAYS)
    offsets, labels = arrays["offsets"].astype(np.int64), arrays["label"].astype(np.int64)
    count = len(arrays["x"])
    fits = all(len(arrays[name]) == count for name in ("y", "dt_lo", "dt_hi"))
    ordered = len(offsets) == len(labels) + 1 and (np.diff(offsets, prepend=0, append=count) >= 0).all()
    inside = not ((offsets < 0) | (offsets > count)).any()  # differences of large numbers overflow
    if not fits or not inside or not ordered or 8 * len(arrays["p"]) < count:
        raise InputError(f"{path}: events, offsets and labels do not fit each other; is the file whole?")
    p = np.unpackbits(arrays["p"])[:count]
    dt = arrays["dt_lo"].astype(np.uint32) | arrays["dt_hi"].astype(np.uint32) << 8

    def read(indices: np.ndarray) -> Iterator[Recording]:
        for i in indices:
            events = slice(offsets[i], offsets[i + 1])
            yield Recording(arrays["x"][events], arrays["y"][events], p[events], dt[events])

    names = arrays.get("sample_id", np.arange(len(labels)))
    if len(names) != len(labels):
        raise InputError(f"{path}: {len(names)} names (sample_id) for {len(labels)} recordings")
    return Listing(
        ids=[f"{path.stem}/{plain_text(str(name))}" for name in names.tolist()],
        read=read,
        labels=labels,
        classnames=names_of(labels, read_names(folder), str(folder)),
    )


def _holds_events(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return {"x.npy", "y.npy", "offsets.npy"} <= set(archive.namelist())
    except Exception:  # damaged: an error of `list_events`, when someone reads it
        return True


def _read(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    arrays = load_arrays(path, "the recordings", (*names, "sample_id"))
    if missing := [name for name in names if name not in arrays]:
        raise InputError(f"{path}: no array {missing[0]!r}; expected {', '.join(_ARRAYS)}")
    for name, array in arrays.items():
        kinds = "u" if name in _BYTES else "iuU" if name == "sample_id" else "iu"
        if array.ndim != 1 or array.dtype.kind not in kinds or (name in _BYTES and array.itemsize > 1):
            expected = "bytes" if name in _BYTES else "whole numbers"
            raise InputError(
                f"{path}: {name} holds {array.dtype} of shape {array.shape} where a row of {expected} was expected"
            )
    return arrays
