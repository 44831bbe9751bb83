"""Arrays of an .npz file of unknown origin, none larger than its file allows."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from spikeclip.data.readers.listing import check_file
from spikeclip.errors import InputError, first_line

_LEAST, _TIMES = 1 << 26, 100  # bytes in memory for a file of any size, and for each byte of it


def load_arrays(path: Path, what: str, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays `names` of an .npz file, those of them that it holds; None for all.

    what: the file in a message, such as "the recordings". Raises `InputError` for a file that is damaged or holds
    objects, and for arrays that claim more bytes than are there or unpack to far more than the file.
    """
    check_file(path)
    limit = _LEAST + _TIMES * path.stat().st_size
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = None if names is None else {f"{name}.npy" for name in names}
            infos = [info for info in archive.infolist() if wanted is None or info.filename in wanted]
            if len({info.filename for info in infos}) < len(infos):
                raise ValueError("two arrays have one name")
            if (total := sum(info.file_size for info in infos)) > limit:
                raise ValueError(f"it unpacks to {total:,} bytes, which is out of proportion")
            for info in infos:
                with archive.open(info) as file:
                    arrays[info.filename.removesuffix(".npy")] = _array(
                        file.read(info.file_size), info.filename
                    )
    except Exception as error:  # zipfile, zlib and NumPy raise nearly anything on damaged bytes
        raise InputError(f"{path}: {what} cannot be read ({first_line(error)})") from None
    return arrays


def _array(data: bytes, name: str) -> np.ndarray:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"{name} has the format {version}")
    shape, fortran, dtype = read_header[version](file)
    count = math.prod(shape)
    fits = count * dtype.itemsize == len(data) - file.tell() and max(shape, default=0) <= max(count, 1 << 20)
    if dtype.hasobject or min(shape, default=0) < 0 or not fits:
        raise ValueError(f"{name} does not hold {shape} of {dtype}")
    array = np.frombuffer(data, dtype, count, file.tell())
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
