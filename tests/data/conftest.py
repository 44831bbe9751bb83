"""Small sources to load."""

import warnings

import pytest
from small_sources import class_label, noise, png, write_parquet

from spikeclip.config import ImageFormat
from spikeclip.data import Pictures, load_pictures


@pytest.fixture
def folder(tmp_path):
    """Twelve 32 px pictures of two classes, the cat's number 3 damaged in "train"; a small "val"."""
    blobs = [png(noise(i)) for i in range(12)]
    blobs[3] = blobs[3][:200]
    features = class_label("dog", "cat")
    write_parquet(tmp_path / "set/train.parquet", blobs, {"label": [0] * 3 + [1] * 9}, features)
    write_parquet(tmp_path / "set/val.parquet", [png(noise(99))], {"label": [1]}, features)
    return tmp_path / "set"


@pytest.fixture
def load(tmp_path):
    def load(source, split="train", image_size=32, event_frames=None, **options) -> Pictures:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            format = ImageFormat(image_size, event_frames)
            return load_pictures(str(source), split, format, cache=tmp_path / "cache", **options)

    return load
