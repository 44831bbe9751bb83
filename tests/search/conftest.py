from pathlib import Path

import pytest
from indexed_photos import Counting, draw

import spikeclip
from spikeclip.search import Index


@pytest.fixture(scope="session")
def shipped():
    return spikeclip.open_encoder("spikeclip-lite0")


@pytest.fixture
def encoder(shipped):
    return Counting(shipped)


@pytest.fixture
def photos(tmp_path) -> Path:
    for i in range(6):
        draw(tmp_path / "photos" / f"{i}.png", i)
    return tmp_path / "photos"


@pytest.fixture
def index(tmp_path, encoder, photos) -> Index:
    index = Index.create(tmp_path / "db", encoder)
    assert index.add(encoder, [photos]).added == 6
    return index
