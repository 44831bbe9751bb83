import pytest
from filelock import FileLock

from spikeclip.cache import KINDS, clear_cache, kept
from spikeclip.errors import InputError


@pytest.fixture
def cache(tmp_path):
    for name in ("pictures/a.npy", "pictures/a.json", "embeddings/images-1.npy", "embeddings/images-2.npy.partial",
                 "pictures/thesis.txt", "other/b.npy"):  # fmt: skip
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 5000)
    return tmp_path


def test_every_kind_is_counted(cache):
    found = {row.kind: row for row in kept(cache=cache)}
    assert list(found) == list(KINDS)
    assert (found["pictures"].files, found["embeddings"].files, found["engine"].files) == (2, 2, 0)
    assert found["pictures"].bytes >= 10_000
    assert found["pictures"].used is not None
    assert found["engine"].used is None


def test_only_what_spikeclip_wrote_is_deleted(cache):
    assert clear_cache(["pictures"], cache) >= 10_000
    assert sorted(file.name for file in cache.rglob("*") if file.is_file()) == [
        "b.npy", "images-1.npy", "images-2.npy.partial", "thesis.txt"
    ]  # fmt: skip
    with pytest.raises(InputError, match="unknown kind of cache 'picture'; did you mean 'pictures'"):
        clear_cache(["picture"], cache)


def test_embeddings_that_are_being_computed_stay(cache):
    with FileLock(cache / "embeddings" / "images-2.npy.lock"):
        clear_cache(cache=cache)
        left = [file.name for file in (cache / "embeddings").iterdir()]
    assert sorted(left) == ["images-2.npy.lock", "images-2.npy.partial"]
    clear_cache(cache=cache)
    assert list((cache / "embeddings").iterdir()) == []
