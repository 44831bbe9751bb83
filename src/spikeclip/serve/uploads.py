"""Pictures that strangers send, decoded within bounds."""

from __future__ import annotations

import base64
import binascii
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from spikeclip.data.decode import decode_sized
from spikeclip.serve.refusals import Refused
from spikeclip.serve.settings import Settings

SCANS = 64
"""Scans of a JPEG: a real one has up to 12, and thousands of empty ones would take minutes."""
# More threads would only wait for each other, and each keeps some of the memory that it has used.
_DECODING = ThreadPoolExecutor(max(2, os.cpu_count() or 1), "decoding")


def pixels_of(encoded: bytes, image_size: int, settings: Settings, name: str = "the picture") -> np.ndarray:
    """Return an uploaded picture as an encoder reads it, (image_size, image_size, 3) uint8.

    Raises `Refused`, with what is wrong with `name`, for what is no picture, is damaged or passes the bounds.
    """
    if not encoded:
        raise Refused(400, f"{name} is empty: send the bytes of a picture file")
    if len(encoded) > settings.upload_bytes:
        raise too_large(settings.upload_bytes)
    if encoded[:2] == b"\xff\xd8" and (scans := encoded.count(b"\xff\xda")) > SCANS:
        raise Refused(400, f"{name} cannot be read: a JPEG of {scans:,} scans, the bound is {SCANS}")
    decoded = _DECODING.submit(decode_sized, encoded, image_size, settings.upload_pixels).result()
    if isinstance(decoded, str):
        raise Refused(400, f"{name} cannot be read: {decoded}")
    return decoded.pixels


def from_base64(text: str, name: str) -> bytes:
    """Return the bytes of a picture in base64; raises `Refused` for a text that is none."""
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, f"{name} is not base64: send the bytes of a picture file so encoded") from None


def too_large(most: int) -> Refused:
    """Return what a body of more bytes than `most` gets."""
    return Refused(
        413,
        f"the request has more than {most / 1e6:g} MB: send less, or smaller pictures",
        Connection="close",
    )
