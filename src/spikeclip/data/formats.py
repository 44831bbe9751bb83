"""The picture formats that are read, and how large a picture of each may be."""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    """endings: of its files, in lower case. most: pixels of the largest picture that is decoded.

    A decoder takes 4 (PNG) to 20 bytes (WebP) a pixel, so that `most` pixels of any format take about 600 MB.
    """

    endings: tuple[str, ...]
    most: int


FORMATS = {
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif"), 150_000_000),
    "PNG": Format((".png", ".apng"), 150_000_000),
    "WEBP": Format((".webp",), 30_000_000),
    "GIF": Format((".gif",), 150_000_000),
    "BMP": Format((".bmp",), 150_000_000),
    "TIFF": Format((".tif", ".tiff"), 35_000_000),
    "PPM": Format((".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), 75_000_000),
    "AVIF": Format((".avif", ".avifs"), 30_000_000),
}
"""By Pillow's names. Its other formats are not opened: some start programs (EPS), others hold no photographs."""
MOST_IN_SCANS = 60_000_000
"""Pixels of the largest JPEG in several scans, such as a progressive one, whose coefficients are all kept."""
READ = ", ".join(FORMATS)
UNREAD_ENDINGS = {
    *(".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".psd", ".tga"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
}
"""Endings of pictures of other formats: they are counted as pictures that cannot be read."""
PICTURE_ENDINGS = UNREAD_ENDINGS.union(*(format.endings for format in FORMATS.values()))
