"""Uploads that no server should fall over, for its tests and its benchmark."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")


class Upload(NamedTuple):
    """options: what httpx's `request` takes beside method and address."""

    name: str
    method: str
    address: str
    options: dict[str, Any]


def pictures() -> dict[str, bytes]:
    """A small picture of each format, encoded."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    found = {}
    for name in FORMATS:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, name)
        found[name] = file.getvalue()
    return found


def fuzzed(blob: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut out, doubled or cut off."""
    changed = bytearray(blob)
    for _ in range(rng.randint(1, 20)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    kind, at = rng.randrange(4), rng.randrange(len(changed))
    if kind == 0:
        del changed[at : at + rng.randint(1, 200)]
    elif kind == 1:
        changed[at:at] = changed[at // 2 : at]
    elif kind == 2:
        del changed[at:]
    return bytes(changed)


def png(width: int, height: int, rows: int) -> bytes:
    """A PNG whose header says what it will and whose data is `rows` of zeros, compressed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(min(rows * (1 + 3 * width), 20_000_000)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there many times."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "JPEG", progressive=True)
    blob = file.getvalue()
    last = blob.rindex(b"\xff\xda")
    return blob[:last] + blob[last:-2] * count + blob[-2:]


@cache
def bombs() -> dict[str, bytes]:
    """Small files that stand for large pictures, or for much work."""
    return {
        "30,000 x 30,000 of zeros": png(30_000, 30_000, 200),
        "2^31 x 2^31": png(2**31 - 1, 2**31 - 1, 0),
        "more scans than anyone needs": scans(5_000),
        "a strip": png(1, 60_000_000, 1000),
    }  # fmt: skip


def uploads(seed: int, count: int) -> Iterator[Upload]:
    """Yield `count` requests, each broken in its own way."""
    rng, good = random.Random(seed), pictures()
    kinds = [_fuzz, _fuzz, _fuzz, _bomb, _wrong_type, _json, _form, _path, _query]
    for i in range(count):
        yield Upload(*kinds[i % len(kinds)](rng, good))


def _fuzz(rng: random.Random, good: dict[str, bytes]) -> tuple:
    name = rng.choice(FORMATS)
    address = rng.choice(("/v1/classify", "/v1/inspect", "/v1/search", "/v1/embed/image"))
    field = "pictures" if address.endswith("image") else "picture"
    data = {"labels": "cat,dog"} if address.endswith("classify") else {}
    return f"fuzzed {name}", "POST", address, {"files": {field: ("x", fuzzed(good[name], rng))}, "data": data}


def _bomb(rng: random.Random, good: dict[str, bytes]) -> tuple:
    name, blob = rng.choice(list(bombs().items()))
    return f"bomb {name}", "POST", "/v1/classify", {"files": {"picture": blob}, "data": {"labels": "cat,dog"}}


def _wrong_type(rng: random.Random, good: dict[str, bytes]) -> tuple:
    blob = rng.choice((b"", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"PK\x03\x04",
                       b"\x7fELF", b"MZ", b"\x00" * 5000, rng.randbytes(3000)))  # fmt: skip
    sent = rng.choice(("x.jpg", "../../etc/passwd", "a\x00b.png", "'; DROP TABLE pictures; --", "x" * 5000))
    kind = rng.choice(("image/jpeg", "text/html", "application/x-evil", ""))
    return "wrong type", "POST", "/v1/inspect", {"files": {"picture": (sent, blob, kind)}}


def _json(rng: random.Random, good: dict[str, bytes]) -> tuple:
    deep = "[" * 100_000
    body = rng.choice((
        "", "{", "null", "[]", '"text"', "{]", deep, '{"text": ' + deep, '{"texts": 3}', '{"texts": []}', "\xff\xfe",
        '{"texts": ["\\ud800"]}', '{"texts": [null]}', json.dumps({"texts": ["x"] * 100_000}), '{"vector": [1e999]}',
        '{"vector": [NaN, 1]}', json.dumps({"vector": [0.0] * 512}), '{"vector": "x"}', '{"text": "a", "limit": -1}',
        '{"text": "a", "cursor": "99999999999"}', '{"text": "a", "cursor": "-1"}', '{"like": "../../etc/passwd"}',
        '{"text": "a", "where": "1=1; DROP TABLE pictures"}', '{"text": "a", "where": "("}', '{"image": "!!"}',
        '{"image_url": "file:///etc/passwd"}', '{"embedding_input": [1]}', '{"text": "a", "num_images": 10000000}',
        json.dumps({"image": "A" * 1_000_001}),
    ))  # fmt: skip
    address = rng.choice(("/v1/search", "/v1/embed/text", "/knn-service"))
    return (
        "json",
        "POST",
        address,
        {"content": body.encode("latin-1"), "headers": {"content-type": "application/json"}},
    )


def _form(rng: random.Random, good: dict[str, bytes]) -> tuple:
    body, kind = rng.choice((
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--", "multipart/form-data; boundary=x"),
        (b"no form", "multipart/form-data"),
        (b"labels=" + b"a," * 5000, "application/x-www-form-urlencoded"),
        (b"\x80\x81", "multipart/form-data; charset=zlib_codec; boundary=x"),
        (b"%", "application/x-www-form-urlencoded"),
        (b"a" * 3_000_000, "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=labels\r\n\r\n" + b"a" * 2_000_000 + b"\r\n--x--\r\n",
         "multipart/form-data; boundary=x"),
    ))  # fmt: skip
    address = rng.choice(("/v1/classify", "/v1/search", "/v1/embed/image"))
    return "form", "POST", address, {"content": body, "headers": {"content-type": kind.encode()}}


def _path(rng: random.Random, good: dict[str, bytes]) -> tuple:
    inside = rng.choice((
        "../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/app.py", "....//....//etc/passwd",
        "%00", "..%5c..%5cwindows", "%ff%fe", "~root", "a" * 4000, "' OR 1=1 --", "file:///etc/passwd",
    ))  # fmt: skip
    prefix = rng.choice(("/v1/pictures/", "/", "/static/", "/page/", "//"))
    return "path", "GET", prefix + inside, {}


def _query(rng: random.Random, good: dict[str, bytes]) -> tuple:
    query = rng.choice((
        "", "text=", "limit=x", "text=a&limit=999999", "text=a&where='", "like=%2e%2e%2fetc%2fpasswd",
        "vector=1&vector=x", "text=a&like=b", "text=" + "a" * 9000, "size=0", "cursor=1e9&text=a", "%00=%00",
        "text=%ff", "text=a&unknown=1", "text=a&where=" + "(" * 400,
    ))  # fmt: skip
    return "query", "GET", f"/v1/search?{query}", {}
