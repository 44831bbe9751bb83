"""Decoded pictures on disk: an .npy that is memory-mapped and a .json with everything else."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from spikeclip.config import ImageFormat
from spikeclip.data.decode import decode
from spikeclip.data.images import Images
from spikeclip.data.pictures import Pictures
from spikeclip.data.readers.events import count_events
from spikeclip.data.readers.listing import Listing, Recording
from spikeclip.errors import InputError
from spikeclip.files import replacing
from spikeclip.progress import tracked

_PROGRESS_FROM = 5000


def read(path: Path) -> Pictures | None:
    """Return the pictures stored under `path` (.npy and .json), or None where they are missing or damaged."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        # Copy on write: nothing reaches the file, and PyTorch warns of arrays that it must not write to.
        pixels = np.load(path.with_suffix(".npy"), mmap_mode="c", allow_pickle=False)
        if len(pixels) != len(about["ids"]):
            return None
        labels = about.pop("labels")
        labels = None if labels is None else np.array(labels, np.int64)
        return Pictures(images=Images([pixels]), labels=labels, **about)
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write(
    path: Path, name: str, split: str, listing: Listing, chosen: np.ndarray, format: ImageFormat
) -> None:
    """Decode the pictures `chosen` (K,) of a listing, or sum recordings into frames, and store them under `path`.

    Files appear whole or not at all, the .json last. Raises `InputError` when no picture can be read.
    """
    digest = hashlib.sha256()
    kept: list[int] = []
    skipped = dict(listing.skipped)
    with replacing(path.with_suffix(".npy")) as file:
        _header(file, (len(chosen), *format.shape))
        pixels = _decoded(listing.read(chosen), format)
        pairs, long = zip(chosen.tolist(), pixels, strict=True), len(chosen) > _PROGRESS_FROM
        for i, image in tracked(pairs, f"decoding {name} {split}", len(chosen), shown=long):
            if isinstance(image, str):
                skipped[listing.ids[i]] = image
                continue
            kept.append(i)
            data = image.tobytes()
            digest.update(data)
            file.write(data)
        if not kept:
            first = f" ({listing.ids[chosen[0]]}: {skipped[listing.ids[chosen[0]]]})" if len(chosen) else ""
            raise InputError(f"{name}: none of the {len(chosen)} pictures of {split!r} can be read{first}")
        if len(kept) < len(chosen):
            file.seek(0)
            _header(file, (len(kept), *format.shape))
    about: dict[str, Any] = {
        "name": name,
        "split": split,
        "ids": [listing.ids[i] for i in kept],
        "labels": None if listing.labels is None else listing.labels[kept].tolist(),
        "classnames": listing.classnames,
        "captions": None if listing.captions is None else [listing.captions[i] for i in kept],
        "skipped": skipped,
    }
    digest.update(json.dumps({**about, "skipped": skipped | listing.others}, sort_keys=True).encode())
    with replacing(path.with_suffix(".json")) as file:
        file.write(
            json.dumps({**about, "others": listing.others, "fingerprint": digest.hexdigest()}).encode()
        )


def _header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    # NumPy pads the header so that a shorter first axis fits the same number of bytes.
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _decoded(
    encoded: Iterator[bytes | Path] | Iterator[Recording], format: ImageFormat
) -> Iterator[np.ndarray | str]:
    def decoded(item: bytes | Path | Recording) -> np.ndarray | str:
        if isinstance(item, Recording):
            frames = count_events(item, format.image_size, format.event_frames or 1)
            return "no events, or events outside the sensor" if frames is None else frames
        return decode(item, format.image_size)

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        # Few pictures wait for their turn, encoded or decoded, because each may be large.
        waiting = deque(pool.submit(decoded, item) for item in islice(encoded, 4 * threads))
        while waiting:
            image = waiting.popleft().result()
            waiting.extend(pool.submit(decoded, item) for item in islice(encoded, 1))
            yield image
