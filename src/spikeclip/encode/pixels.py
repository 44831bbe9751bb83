"""Pictures as people have them -> the pixels that an encoder reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from spikeclip.config import ImageFormat
from spikeclip.data.decode import decode, square
from spikeclip.errors import InputError, printable

Picture = Image.Image | str | Path
"""A PIL picture, or the file of one."""


def as_pixels(pictures: np.ndarray | Sequence[Picture], format: ImageFormat) -> np.ndarray:
    """Return pictures as uint8 (N, *format.shape); an array is returned as it is.

    Each is turned upright, put on white where it is transparent, resized to its shorter side and cropped at the centre.
    Raises `InputError` that names a file that cannot be read, and where `format` is of event recordings.
    """
    if isinstance(pictures, np.ndarray):
        return pictures
    if isinstance(pictures, (str, Path, Image.Image)):
        raise InputError("expected a list of pictures, got one: put it in brackets, as in [picture]")
    if format.event_frames and len(pictures):
        raise InputError("this model reads event recordings: give it frames of events as an array")
    pixels = [_pixels(picture, format.image_size) for picture in pictures]
    return np.stack(pixels) if pixels else np.empty((0, *format.shape), np.uint8)


def _pixels(picture: Picture, image_size: int) -> np.ndarray:
    if isinstance(picture, Image.Image):
        return square(picture, image_size)
    if not isinstance(picture, (str, Path)):
        raise InputError(f"a picture is a file or a PIL picture, got {type(picture).__name__}")
    file = Path(picture).expanduser()
    pixels = decode(file, image_size)
    if isinstance(pixels, str):
        raise InputError(f"{printable(str(file))} cannot be read: {pixels}")
    return pixels
