"""Decode damaged pictures under a limit of memory and print what came of them; a program of its own.

python fuzz_pictures.py SEED COUNT: for each format COUNT pictures with changed bytes, and some with every size that
their headers can state. Prints JSON: of each format how many were decoded, and how often each reason was given.
"""

import collections
import io
import json
import os
import random
import resource
import struct
import sys
import zlib

LIMIT = 1 << 30
resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # each thread of a decoder reserves memory

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from spikeclip.data.decode import decode  # noqa: E402
from spikeclip.data.formats import FORMATS  # noqa: E402

SIDES = (0, 1, 7, 33, 4097, 5600, 9000, 12_000, 16_383, 30_000, 65_535, 2**24 - 1, 2**31 - 1, 2**32 - 1)


def pictures(name):
    """Ten small pictures of a format, of several modes."""
    rng = np.random.default_rng(0)
    modes = {
        "JPEG": ("RGB", "L", "CMYK"),
        "AVIF": ("RGB", "RGBA"),
        "WEBP": ("RGB", "RGBA"),
        "BMP": ("RGB", "P", "1"),
    }
    modes |= {"PPM": ("RGB", "L", "1"), "GIF": ("P", "L")}
    options = {"JPEG": [{}, {"progressive": True}], "WEBP": [{}, {"lossless": True}]}
    options |= {
        "TIFF": [{}, *({"compression": kind} for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits"))]
    }
    for i in range(10):
        mode = modes.get(name, ("RGB", "RGBA", "L", "P", "I;16"))[i % len(modes.get(name, range(5)))]
        pixels = rng.integers(0, 256, (33, 40, 3), np.uint8)
        picture = Image.fromarray(pixels)
        picture = (
            Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
            if mode == "I;16"
            else picture.convert(mode)
        )
        animated = i == 9 and name in ("GIF", "PNG", "WEBP")
        more = {"save_all": True, "append_images": [picture.rotate(90)]} if animated else {}
        exif = Image.Exif()
        exif[0x0112] = i % 9
        more |= {"exif": exif} if name in ("JPEG", "PNG", "WEBP", "AVIF") else {}
        file = io.BytesIO()
        picture.save(file, name, **options.get(name, [{}])[i % len(options.get(name, [{}]))], **more)
        yield file.getvalue()


def changed(blob, rng):
    """Flip, cut out, insert or repeat bytes at a few places, near the header more often."""
    blob = bytearray(blob)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = int(len(blob) * rng.random() ** rng.choice((1, 4)))
        kind = rng.randrange(5)
        if kind == 0:
            blob[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del blob[place : place + rng.choice((1, 2, 4, 100))]
        elif kind == 2:
            blob[place:place] = rng.randbytes(rng.choice((1, 2, 4, 100)))
        elif kind == 3:
            size = rng.choice((2, 4))
            blob[place : place + size] = rng.choice((b"\xff", b"\x7f", b"\0")) * size
        else:
            blob[place:place] = blob[place : place + rng.choice((4, 12, 64))]
    return bytes(blob)


def resized(name, blob, width, height):
    """Write another size into the header; None where the format cannot state it or the picture has no such header."""
    data = bytearray(blob)
    try:
        if name == "PNG":
            data[16:24] = struct.pack(">II", width, height)
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        elif name == "JPEG":
            frame = max(blob.find(b"\xff\xc0"), blob.find(b"\xff\xc2"))
            data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
        elif name == "GIF":
            data[6:10] = struct.pack("<HH", width, height)
            frame = blob.index(b",\0\0\0\0(\0!\0")
            data[frame + 5 : frame + 9] = struct.pack("<HH", width, height)
        elif name == "BMP":
            data[18:26] = struct.pack("<II", width, height)
        elif name == "WEBP" and blob[12:16] == b"VP8X":
            data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        elif name == "WEBP" and blob[12:16] == b"VP8L":
            data[21:25] = struct.pack(
                "<I", (width - 1) & 0x3FFF | ((height - 1) & 0x3FFF) << 14 | data[24] >> 4 << 28
            )
        elif name == "PPM":
            data = bytearray(blob.replace(b"40 33", b"%d %d" % (width, height), 1))
        elif name == "TIFF":
            start = struct.unpack("<I", blob[4:8])[0]
            for entry in range(
                start + 2, start + 2 + 12 * struct.unpack("<H", blob[start : start + 2])[0], 12
            ):
                tag = struct.unpack("<H", blob[entry : entry + 2])[0]
                if tag in (256, 257):
                    data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, width if tag == 256 else height)
        elif name == "AVIF":
            place = blob.index(b"ispe")
            data[place + 8 : place + 16] = struct.pack(">II", width, height)
        else:
            return None
    except (struct.error, ValueError, OverflowError):
        return None
    return bytes(data)


def bombs():
    """Small files that ask for much: compressed texts and profiles of a PNG, tiles and strips of a TIFF."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    zeros = zlib.compressobj(9)
    much = b"".join(zeros.compress(bytes(1 << 20)) for _ in range(512)) + zeros.flush()
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(24) for _ in range(8)))) + chunk(
        b"IEND", b""
    )
    for name, data in (
        (b"zTXt", b"a\0\0" + much),
        (b"iTXt", b"a\0\1\0\0\0" + much),
        (b"iCCP", b"a\0\0" + much),
    ):
        yield head + chunk(name, data) + pixels
    yield head + chunk(b"IDAT", much) + chunk(b"IEND", b"")
    for more in (
        {322: (4, 2**16), 323: (4, 2**16), 324: (4, 200), 325: (4, len(much))},
        {278: (4, 2**32 - 1)},
    ):
        tags = {256: (3, 8), 257: (3, 8), 258: (3, 8), 259: (3, 8), 262: (3, 1), 277: (3, 1)} | more
        tags |= {} if 322 in more else {273: (4, 200), 279: (4, len(much))}
        entries = b"".join(
            struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value)
            for tag, (kind, value) in sorted(tags.items())
        )
        head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
        yield head.ljust(200, b"\0") + much


def main(seed, count):
    rng = random.Random(seed)
    result = {}
    for name in FORMATS:
        counts = collections.Counter()
        blobs = list(pictures(name))
        cases = [changed(rng.choice(blobs), rng) for _ in range(count)]
        sizes = [(rng.choice(SIDES), rng.choice(SIDES)) for _ in range(count // 10)]
        cases += [case for size in sizes if (case := resized(name, rng.choice(blobs), *size))]
        for case in [*blobs, *cases, *(bombs() if name == "PNG" else ())]:
            pixels = decode(case, 32)
            if not isinstance(pixels, str):
                assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8), (
                    name,
                    pixels.shape,
                    pixels.dtype,
                )
            counts[pixels if isinstance(pixels, str) else "decoded"] += 1
        result[name] = counts
    print(json.dumps(result))


main(int(sys.argv[1]), int(sys.argv[2]))
