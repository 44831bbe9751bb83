"""From an encoded picture to a square of pixels: the one reader for training sets and single pictures."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin
from PIL.ImageFile import ImageFile

from spikeclip.data.formats import FORMATS, MOST_IN_SCANS, READ
from spikeclip.errors import InputError, first_line, printable

# Pillow warns of large pictures and odd metadata; what cannot be read is said with the name of the picture.
warnings.filterwarnings("ignore", module=r"PIL\.")

_WIDEST = 8  # a longer picture is cropped before it is resized: a 1 x 60000 strip must not fill the memory
_LARGE = 1 << 24  # from so many pixels on, a picture is reduced while it is decoded and converted
_SPARE = 8  # and keeps at least this many times the wanted side, for the bicubic resize that follows
_BAND = 1 << 20  # pixels that are converted at a time
_ORIENTATION = 0x0112  # EXIF's tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


def square(picture: Image.Image, image_size: int) -> np.ndarray:
    """Return a picture of any mode as RGB pixels, (image_size, image_size, 3) uint8.

    What is transparent shows white. Turned upright (EXIF), the shorter side resized to `image_size` (bicubic,
    antialiased; untouched when it fits already), and cropped at the centre. Raises `InputError` for floating-point
    pixels, which have no known range.
    """
    picture.load()
    flat = _flat(picture, _factor(picture.size, image_size))
    turn = _TURNS.get(_orientation(picture))
    upright = flat if turn is None else flat.transpose(turn)
    short, long = sorted(upright.size)
    if long > _WIDEST * short:
        width, height = (min(side, _WIDEST * short) for side in upright.size)
        upright, long = _centre(upright, width, height), _WIDEST * short
    if short != image_size:
        longer = max(image_size, int(image_size * long / short))
        wide = upright.width >= upright.height
        size = (longer, image_size) if wide else (image_size, longer)
        upright = upright.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(_centre(upright, image_size, image_size))


class Decoded(NamedTuple):
    """pixels: (image_size, image_size, 3) uint8. width, height: of the whole picture, upright, in pixels."""

    pixels: np.ndarray
    width: int
    height: int


def decode(encoded: bytes | Path | IO[bytes], image_size: int) -> np.ndarray | str:
    """Decode a picture file to (image_size, image_size, 3) uint8; a text says why where it cannot be read.

    It is a path, the file's bytes, or an open file. See `decode_sized`.
    """
    decoded = decode_sized(encoded, image_size)
    return decoded if isinstance(decoded, str) else decoded.pixels


def decode_sized(
    encoded: bytes | Path | IO[bytes], image_size: int, most: int | None = None
) -> Decoded | str:
    """Decode a picture file, and say how large it is; a text says why where it cannot be read.

    most: pixels of the largest picture that is decoded, where that is less than the bound of its format. Only regular
    files of the formats in `FORMATS` are opened, and nothing is decoded before the size in the header is below the
    bound. The pictures that threads decode at a time take no more memory than one of the largest size. Of an animation
    the first picture is taken.
    """
    try:
        if isinstance(encoded, Path) and encoded.exists() and not encoded.is_file():
            return "not a regular file"
        with _file(encoded) as file:
            picture = _opened(file)
            width, height = picture.size
            if most is not None:
                _check_size((width, height), "any picture here", most)
            cost = _cost(picture, image_size)
            with _MEMORY.taken(cost):
                pixels = square(picture, image_size)
                turned = _orientation(picture) in _SIDEWAYS
                del picture  # before its share of the memory is given back
            return Decoded(pixels, *((height, width) if turned else (width, height)))
    except InputError as error:
        return str(error)
    except Image.DecompressionBombError:
        return "it has more pixels than the bound"
    except MemoryError:
        return "not enough memory to decode it"
    except (OSError, SyntaxError, ValueError) as error:
        said = error.strerror.lower() if isinstance(error, OSError) and error.strerror else ""
        return said or printable(f"damaged: {first_line(error)}")
    except Exception as error:
        # Pillow's decoders raise nearly anything on damaged bytes, and their message may be no more than a number.
        return printable(f"damaged: {type(error).__name__} {first_line(error)}")


def _file(encoded: bytes | Path | IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    if isinstance(encoded, bytes):
        return io.BytesIO(encoded)
    return encoded.open("rb") if isinstance(encoded, Path) else nullcontext(encoded)


class _Memory:
    """The memory for decoding, in thousandths, that threads take turns to use."""

    def __init__(self) -> None:
        self._free, self._changed = 1000, threading.Condition()

    @contextmanager
    def taken(self, cost: int) -> Iterator[None]:
        """Wait until `cost` (1 to 1000) is free, and hold it."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= cost)
            self._free -= cost
        try:
            yield
        finally:
            with self._changed:
                self._free += cost
                self._changed.notify_all()


_MEMORY = _Memory()


def _opened(file: IO[bytes]) -> ImageFile:
    """The picture of a file, its header read and no pixel decoded; its first bytes tell the format."""
    start = file.read(32)
    file.seek(0)
    if not start:
        raise InputError("an empty file")
    if start[4:10] == b"ftyphe":
        raise InputError("HEIC, which Pillow alone does not read: save it as JPEG")
    for name in FORMATS:
        if name not in Image.OPEN:
            Image.init()
        factory, accepts = Image.OPEN.get(name, (None, None))
        if factory and accepts and accepts(start) is True:
            if name == "WEBP":
                _check_size(_webp_size(start), name)  # its decoder takes memory for all pixels at once
            # Of several pictures in one JPEG file the first is wanted: it is the file read as a plain JPEG.
            picture = JpegImagePlugin.JpegImageFile(file) if name == "JPEG" else factory(file, "")
            clear = picture.info.get("transparency")
            if name == "PNG" and picture.mode == "L" and isinstance(clear, int):
                # Grey of 2 or 4 bits is spread to 8, but Pillow leaves the level that is transparent.
                picture.info["transparency"] = clear * {"L;2": 85, "L;4": 17}.get(str(picture.tile[0][3]), 1)
            return picture
    raise InputError(f"not a picture of a format that is read ({READ})")


def _cost(picture: ImageFile, image_size: int) -> int:
    """The memory that a picture takes, in thousandths of all; raises `InputError` where its pixels pass the bound.

    Large JPEGs are set to be decoded at a half to an eighth of their size, as far as `image_size` allows.
    """
    size, name, most = picture.size, picture.format or "", FORMATS[picture.format or ""].most
    if name == "JPEG":
        scans = picture.fp.read(3)[2:] < bytes([len(picture.getbands())]) or "progressive" in picture.info  # type: ignore[union-attr]
        if scans:
            most, name = MOST_IN_SCANS, "JPEG in several scans"
            _check_size(size, name, most)
        if size[0] * size[1] > _LARGE:
            picture.draft(None, (_SPARE * image_size, _SPARE * image_size))
        size = size if scans else picture.size
    _check_size(size, name, most)
    if name == "TIFF":
        tags = picture.tag_v2  # type: ignore[attr-defined]
        _check_size((tags.get(322, 1), tags.get(323, 1)), "a tile of TIFF", most)
    share = size[0] * size[1] / most
    if picture.mode != "RGB" and _factor(picture.size, image_size) == 1:
        share += size[0] * size[1] / FORMATS["BMP"].most  # its copy in RGB
    return max(1, min(1000, int(1000 * share)))


def _check_size(size: tuple[int, int], name: str, most: int | None = None) -> None:
    most = most or FORMATS[name].most
    if size[0] * size[1] > most:
        raise InputError(f"{size[0]:,} x {size[1]:,} pixels, the bound is {most:,} pixels for {name}")


def _webp_size(start: bytes) -> tuple[int, int]:
    kind, number = start[12:16], int.from_bytes
    if kind == b"VP8X":
        return number(start[24:27], "little") + 1, number(start[27:30], "little") + 1
    if kind == b"VP8L":
        bits = number(start[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return number(start[26:28], "little") & 0x3FFF, number(start[28:30], "little") & 0x3FFF


def _factor(size: tuple[int, int], image_size: int) -> int:
    """By how much a picture is reduced before anything else: 1 for all but large ones."""
    return max(1, min(size) // (_SPARE * image_size)) if size[0] * size[1] > _LARGE else 1


def _flat(picture: Image.Image, factor: int) -> Image.Image:
    """The picture as RGB on white, each side divided by `factor`; a large one is never held twice."""
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return picture.reduce(factor) if factor > 1 else picture
    width, height = picture.size
    flat = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = factor * max(1, _BAND // (width * factor))
    for top in range(0, height, rows):
        band = _rgb(picture.crop((0, top, width, min(top + rows, height))))
        flat.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    return flat


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise InputError("floating-point pixels, which have no known range: save it with whole numbers")
    if picture.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip at 255
        grey = np.asarray(picture)
        pixels = (grey.clip(0, 65535) // 256).astype(np.uint8)
        if isinstance(clear := picture.info.get("transparency"), int):
            pixels[grey == clear] = 255
        return Image.fromarray(pixels).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    clear = picture.info.get("transparency")
    if picture.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:  # of 16 bits, read as 8
        picture.info["transparency"] = tuple(part >> 8 for part in clear)
    rgba = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
    white = Image.new("RGB", picture.size, "white")
    white.paste(rgba, mask=rgba)
    return white


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # whatever damaged EXIF raises, its picture may still be whole
        return 1


def _centre(picture: Image.Image, width: int, height: int) -> Image.Image:
    if picture.size == (width, height):
        return picture
    left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
    return picture.crop((left, top, left + width, top + height))
