"""From an encoded picture to a square of pixels; the same steps for training sets and single pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

_WIDEST = 8  # a longer picture is cropped before it is resized: a 1 x 60000 strip must not fill the memory


def square(picture: Image.Image, image_size: int) -> np.ndarray:
    """Return a picture of any mode as RGB pixels, (image_size, image_size, 3) uint8.

    Turned upright (EXIF), the shorter side resized to `image_size` (bicubic, antialiased; untouched when it
    fits already), and cropped at the centre.
    """
    picture = _rgb(ImageOps.exif_transpose(picture))
    short, long = sorted(picture.size)
    if long > _WIDEST * short:
        picture = _centre(picture, min(picture.width, _WIDEST * short), min(picture.height, _WIDEST * short))
        long = _WIDEST * short
    if short != image_size:
        longer = max(image_size, int(image_size * long / short))
        wide = picture.width >= picture.height
        size = (longer, image_size) if wide else (image_size, longer)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(_centre(picture, image_size, image_size))


def decode(encoded: bytes | Path, image_size: int) -> np.ndarray | None:
    """Decode a picture file to (image_size, image_size, 3) uint8, or None if it cannot be read."""
    try:
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as picture:
            return square(picture, image_size)
    except Exception:
        # Pillow's decoders raise nearly anything on damaged bytes: errors of struct, zlib, syntax, index.
        return None


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip at 255
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) // 256).astype(np.uint8))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _centre(picture: Image.Image, width: int, height: int) -> Image.Image:
    if picture.size == (width, height):
        return picture
    left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
    return picture.crop((left, top, left + width, top + height))
