"""Small pictures and parquet files for tests."""

import io
import itertools
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def noise(seed, width=32, height=32):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_parquet(path, blobs, columns, features=None, image="image", paths=None):
    """Write pictures in the hub's parquet style; features go into the schema's metadata."""
    paths = [f"{i}.png" for i in range(len(blobs))] if paths is None else paths
    cells = [{"bytes": blob, "path": name} for blob, name in zip(blobs, paths, strict=True)]
    table = pa.table({image: cells, **columns})
    if features:
        info = {"info": {"features": {image: {"_type": "Image"}, **features}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def class_label(*names):
    return {"label": {"names": list(names), "_type": "ClassLabel"}}


def write_tar(path, files):
    """Write an archive of files, name: bytes, or a text or number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            data = data if isinstance(data, bytes) else str(data).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_events(path, recordings, labels, **arrays):
    """Write recordings, lists of (microseconds, x, y, polarity) in order of time, as N-MNIST's .npz files are."""
    events = [event for recording in recordings for event in recording]
    times = [[0, *(t for t, *_ in recording)] for recording in recordings]
    dt = np.array([b - a for row in times for a, b in itertools.pairwise(row)], np.uint32)
    _, x, y, p = np.array(events, np.int64).reshape(-1, 4).T
    columns = {
        "x": x.astype(np.uint8),
        "y": y.astype(np.uint8),
        "p": np.packbits(p.astype(np.uint8)),
        "dt_lo": (dt & 255).astype(np.uint8),
        "dt_hi": (dt >> 8).astype(np.uint8),
        "offsets": np.cumsum([0, *map(len, recordings)]),
        "label": np.array(labels, np.uint8),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: value for name, value in {**columns, **arrays}.items() if value is not None})
