"""Damages a small data set again and again and loads it, in a process of its own: fuzz_sources.py KIND ROUNDS.

Whatever is done to its files, loading either raises an `InputError` of one short line, or accounts for every sample:
those read and those named as skipped are as many as were written.
"""

import json
import random
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from small_sources import class_label, noise, png, write_events, write_parquet, write_tar

from spikeclip.config import ImageFormat
from spikeclip.data import load_pictures
from spikeclip.errors import InputError

COUNT = 12
VALUES = (
    "",
    "9" * 30,
    "-1",
    "1.5",
    "NaN",
    "[]",
    "null",
    "{",
    "[" * 9000,
    "\ud800",
    "\0",
    '{"label": 1e400}',
    "ü",
)


def make(kind, folder):
    """Write `COUNT` samples as `kind`; return the files that are damaged."""
    blobs = [png(noise(i, 8, 8)) for i in range(COUNT)]
    labels = [i % 2 for i in range(COUNT)]
    (folder / "names.json").write_text('["a", "b"]')
    if kind in ("shard", "members"):
        for shard in range(2):
            write_tar(folder / f"train/{shard}.tar", members(blobs, labels, range(shard, COUNT, 2)))
        return sorted(folder.glob("train/*.tar"))
    if kind == "parquet":
        for shard, rows in enumerate((slice(0, 5), slice(5, COUNT))):
            columns = {"label": labels[rows], "caption": [["one", f"two {i}"] for i in labels[rows]]}
            write_parquet(folder / f"train-{shard}.parquet", blobs[rows], columns, class_label("a", "b"))
        return sorted(folder.glob("*.parquet"))
    rng = np.random.default_rng(0)
    recordings = [[(t, *map(int, rng.integers(0, 34, 2)), t % 2) for t in range(20)] for _ in range(COUNT)]
    write_events(folder / "train.npz", recordings, labels)
    return [folder / "train.npz"]


def members(blobs, labels, chosen):
    files = {}
    for i in chosen:
        about = {"label": labels[i], "caption": f"number {i}"}
        files |= {f"{i}.png": blobs[i], f"{i}.json": json.dumps(about), f"{i}.txt": f"text {i}\nmore"}
    return files


def damage(data, rng):
    """Change, cut, insert, repeat or blank a part of a file."""
    data, at, size = bytearray(data), rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 512, 1024))
    change = rng.randrange(6)
    if change == 0:
        data[at : at + size] = rng.randbytes(size)
    elif change == 1:
        del data[at:]
    elif change == 2:
        data[at:at] = rng.randbytes(size)
    elif change == 3:
        del data[at : at + size]
    elif change == 4:
        data[at : at + size] = bytes(size)
    else:
        block = at // 512 * 512
        data[block:block] = data[rng.randrange(len(data)) // 512 * 512 :][:size]
    return bytes(data)


def change_members(path, rng):
    """Write a shard whose texts are other values, or are missing."""
    blobs = [png(noise(i, 8, 8)) for i in range(COUNT)]
    files = members(blobs, [i % 2 for i in range(COUNT)], range(int(path.stem), COUNT, 2))
    for name in rng.sample(sorted(files), rng.choice((1, 1, 3, 12))):
        ending, value = name[-4:], rng.choice(VALUES).encode("utf-8", "surrogatepass")
        if ending == "json" and rng.random() < 0.6:
            value = b'{"label": ' + value + b', "caption": "x"}'
        files[name] = value if rng.random() < 0.7 else rng.randbytes(9)
        if ending == ".png" and rng.random() < 0.3:
            del files[name]
    write_tar(path, files)


def main(kind, rounds):
    warnings.simplefilter("ignore")
    refused = loaded = 0
    format = ImageFormat(8, 1 if kind == "npz" else None)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "set")
        folder.mkdir()
        files = make(kind, folder)
        whole = {path: path.read_bytes() for path in files}
        for seed in range(rounds):
            rng = random.Random(seed)
            path = rng.choice(files)
            if kind == "members":
                change_members(path, rng)
            else:
                path.write_bytes(damage(whole[path], rng))
            try:
                pictures = load_pictures(str(folder), "train", format, cache=Path(scratch, str(seed)))
                assert len(pictures) + len(pictures.skipped) == COUNT, (seed, len(pictures), pictures.skipped)
                json.dumps([pictures.captions, pictures.ids], ensure_ascii=False).encode()
                loaded += 1
            except InputError as error:
                message = str(error)
                refused += len(message.splitlines()) == 1 and len(message) < 600
            path.write_bytes(whole[path])
    memory = next(
        line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    print(json.dumps({"refused": refused, "loaded": loaded, "megabytes": int(memory) // 1024}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
