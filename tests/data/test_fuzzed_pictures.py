"""Damaged and enormous pictures, in processes that may take 1 GB."""

import json
import os
import subprocess
import sys
from pathlib import Path

from spikeclip.data.formats import FORMATS

LARGE = """
import resource, sys, zlib, struct, io
from concurrent.futures import ThreadPoolExecutor
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from PIL import Image
from spikeclip.data.decode import decode

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

side = 12_000
deflate = zlib.compressobj(1)
row = b"\\0" + bytes([200, 0, 0, 255]) * (side // 2) + bytes(4) * (side // 2)
pixels = b"".join(deflate.compress(row) for _ in range(side)) + deflate.flush()
head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
clear = b"\\x89PNG\\r\\n\\x1a\\n" + head + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
file = io.BytesIO()
Image.new("L", (side, side), 90).save(file, "JPEG")
with ThreadPoolExecutor(3) as pool:
    for square in pool.map(lambda blob: decode(blob, 32), [clear, clear, file.getvalue()]):
        corners = [square[row, 4].tolist() + square[row, -4].tolist() for row in (0, -1)]
        print(corners)
"""


def run(*arguments):
    one = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**os.environ, **one}, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_damaged_pictures_of_every_format_are_decoded_or_refused_with_a_reason_below_1_gb():
    result = json.loads(run(str(Path(__file__).with_name("fuzz_pictures.py")), "0", "250"))
    assert list(result) == list(FORMATS)
    for name, reasons in result.items():
        assert sum(reasons.values()) > 270
        assert reasons.pop("decoded") >= 10, name  # the ten that are whole, and others
        assert all(reason.isprintable() and len(reason) > 10 for reason in reasons), reasons
        assert not [reason for reason in reasons if "memory" in reason], name
        assert any("pixels, the bound is" in reason for reason in reasons), name


def test_pictures_of_144_million_pixels_are_decoded_by_several_threads_below_1_gb():
    """One RGBA picture of them takes 576 MB: the second waits for the first."""
    clear = str([[200, 0, 0, 255, 255, 255]] * 2)
    assert run("-c", LARGE).splitlines() == [clear, clear, str([[90] * 6] * 2)]
