"""What is shown of a file of the index."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import TYPE_CHECKING

from PIL import Image

from spikeclip.data.decode import decode
from spikeclip.serve.refusals import Refused, busy

if TYPE_CHECKING:
    from spikeclip.search import Hit


def thumbnail_of(hit: Hit, side: int) -> bytes:
    """Return a square of an indexed file as JPEG; raises `Refused` where the file is not what was indexed."""
    try:
        # Opened once, and without waiting: what is looked at is what is read, and a pipe would never answer.
        number = os.open(hit.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise busy("too many files are open: ask again in a moment") from error
        raise Refused(404, "the file of this picture is gone: run `spikeclip index` again") from None
    with open(number, "rb") as file:
        found = os.fstat(number)
        same = found.st_size == hit.size and abs(found.st_mtime - hit.mtime) <= 1
        if not stat.S_ISREG(found.st_mode) or not same:
            raise Refused(404, "the file of this picture has changed: run `spikeclip index` again")
        pixels = decode(file, side)
    if isinstance(pixels, str):
        raise Refused(404, f"the file of this picture cannot be read: {pixels}")
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=85)
    return encoded.getvalue()
