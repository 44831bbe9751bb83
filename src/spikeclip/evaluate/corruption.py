"""Pictures made worse in five strengths, as CIFAR-10-C does it (Hendrycks and Dietterich, arXiv 1903.12261)."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from spikeclip.errors import InputError, unknown

CORRUPTIONS = {
    "noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "jpeg": (80, 65, 58, 50, 40),
}
"""By strength, 1 to 5: standard deviation of Gaussian noise on pixels in [0, 1]; standard deviation of a Gaussian blur
in pixels of a picture 32 wide, growing with the picture; JPEG quality."""
_SIDE = 32


def corrupt(images_NHWC: np.ndarray, kind: str, strength: int, seed: int = 0) -> np.ndarray:
    """Return pictures (N, H, W, 3) uint8 with a corruption of strength 1 to 5.

    The noise of a picture depends on `seed` and its place alone. Raises `InputError` for an unknown kind or strength.
    """
    if kind not in CORRUPTIONS:
        raise unknown("corruption", kind, CORRUPTIONS)
    values = CORRUPTIONS[kind]
    if strength not in range(1, len(values) + 1):
        raise InputError(f"strength must be from 1 to {len(values)}, got {strength}")
    value, worse = values[strength - 1], np.empty_like(images_NHWC)
    for place, image in enumerate(images_NHWC):
        if kind == "noise":
            noise = np.random.default_rng([seed, place]).normal(0, 255 * value, image.shape)
            worse[place] = (image + noise).clip(0, 255).round()
        elif kind == "blur":
            blur = ImageFilter.GaussianBlur(value * image.shape[1] / _SIDE)
            worse[place] = np.asarray(Image.fromarray(image).filter(blur))
        else:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "jpeg", quality=value)
            worse[place] = np.asarray(Image.open(file))
    return worse
