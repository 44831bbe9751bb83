"""Searches: exact, in order, in pages, under conditions, and what another handle or an IVF index sees."""

import math

import numpy as np
import pytest
from indexed_photos import Counting, change, draw

from spikeclip.errors import InputError
from spikeclip.search import Index, query_vector
from spikeclip.search.store import as_batch


def fill(index, count: int, seed: int = 0, paths=None) -> np.ndarray:
    """Random unit rows in the table, (count, dim) float16."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, index.dim), dtype=np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    about = {
        "size": 1,
        "mtime": 2.0,
        "width": 3,
        "height": 4,
        "fingerprint": index.fingerprint,
        "indexed": 5.0,
    }
    rows = [{"id": f"{seed}-{i}", "path": f"/{seed}/{i}.jpg", **about, "width": i} for i in range(count)]
    index._pictures.add(as_batch(rows, vectors))
    return vectors


def test_a_search_is_that_of_numpy(tmp_path, encoder):
    index = Index.create(tmp_path / "db", encoder)
    vectors = fill(index, 20_000)
    for query in np.random.default_rng(1).standard_normal((3, 512)).astype(np.float32):
        scores = vectors.astype(np.float32) @ query / np.linalg.norm(query)
        hits = index.search(query, 10)
        assert [hit.id for hit in hits] == [f"0-{i}" for i in np.argsort(-scores)[:10]]
        assert np.allclose([hit.score for hit in hits], np.sort(scores)[::-1][:10], atol=1e-4)
        small = index.search(query, 5, where="width < 100 AND path LIKE '/0/%'")
        assert [hit.id for hit in small] == [f"0-{i}" for i in np.argsort(-scores[:100])[:5]]
    more = fill(index, 50, seed=2)
    index._pictures.delete("width >= 40")
    assert len(index.search(query, 1000)) == 80
    assert index.search(more[7], 1)[0].id == "2-7"
    index.compact()
    assert index.search(more[7], 1)[0].id == "2-7"
    assert index.search(vectors[39], 1)[0].id == "0-39"


def test_pages_hold_every_row_once_where_scores_are_equal(index, encoder, photos):
    for i in range(9):
        draw(photos / f"same-{i}.png", 0)
    index.add(encoder, [photos])
    query = encoder.encode_image([photos / "0.png"])[0]
    pages = [hit.path for offset in range(0, 15, 4) for hit in index.search(query, 4, offset=offset)]
    assert pages == [hit.path for hit in index.search(query, 15)]
    assert len(set(pages)) == 15
    assert {path.name for path in pages[:10]} == {"0.png", *(f"same-{i}.png" for i in range(9))}


def test_a_second_handle_sees_what_the_first_writes(index, encoder, photos):
    other = Index.open(index.folder)
    assert len(other.search(np.ones(512), 100)) == 6
    change(photos / "1.png", 41)
    draw(photos / "more.png", 42)
    index.add(encoder, [photos])
    for name in ("1.png", "more.png"):
        (hit,) = other.search(encoder.encode_image([photos / name])[0], 1)
        assert hit.path == photos / name
        assert math.isnan(other.get(hit.id).score)
        assert np.allclose(other.vector(hit.id), encoder.encode_image([photos / name])[0], atol=1e-3)
    assert index.remove(str(photos / "more.png")) == 1  # a text is one path, not its letters
    assert len(other.search(np.ones(512), 100)) == 6
    assert other.get(hit.id) is None
    with pytest.raises(InputError, match="no picture in the index"):
        other.vector(hit.id)


def test_words_find_their_picture(index, encoder, photos):
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(photos / "red.png")
    assert index.add(encoder, str(photos)).added == 1
    image = encoder.encode_image([photos / "red.png"])[0]
    text, other = encoder.encode_text(["a red square", "grass"])
    assert np.allclose(query_vector(encoder, texts=["a red square"]), text, atol=1e-6)
    mixed = query_vector(encoder, texts=["a red square"], pictures=[photos / "red.png"], without=["grass"])
    expected = text + image - other
    assert np.allclose(mixed, expected / np.linalg.norm(expected), atol=1e-5)
    assert index.search(query_vector(encoder, pictures=[photos / "red.png"]), 1)[0].path.name == "red.png"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "nothing to look for"),
        ({"without": ["grass"]}, "what is not wanted is taken from it"),
        ({"texts": ["  "]}, "an empty text"),
        ({"texts": "a cat"}, "expected a list of texts"),
        ({"texts": ["cat"], "without": ["cat"]}, "are the same to this model"),
        ({"pictures": ["absent.png"]}, "absent.png cannot be read"),
    ],
)
def test_a_query_that_cannot_be_is_refused(shipped, asked, said):
    with pytest.raises(InputError, match=said):
        query_vector(shipped, **asked)


def test_an_encoder_in_another_precision_is_refused_without_naming_a_rebuild_that_would_not_help(
    index, shipped
):
    weights = shipped.fingerprint.removesuffix("-int8")
    index.check(Counting(shipped))
    said = "in int8, and spikeclip-lite0 in fp32 has other embeddings: ask it in int8$"
    with pytest.raises(InputError, match=said):
        index.check(Counting(shipped, fingerprint=weights))
    with pytest.raises(InputError, match="--model runs/a --rebuild"):
        index.check(Counting(shipped, fingerprint=weights[::-1]), "runs/a")


def test_searches_that_cannot_be_are_refused(index):
    with pytest.raises(InputError, match="a vector of 512 numbers"):
        index.search(np.ones(3))
    with pytest.raises(InputError, match="not all zero"):
        index.search(np.zeros(512))
    with pytest.raises(InputError, match="limit is at least 1"):
        index.search(np.ones(512), 0)
    for where in ("pth = 1", "path LIKE", "1", "size > 'a'"):
        with pytest.raises(InputError, match=r"the condition .* cannot be used: .*on the columns id, path"):
            index.search(np.ones(512), where=where)
    assert index.search(np.ones(512), where="path = 'x'") == []


def test_an_ivf_index_is_read_and_new_rows_are_found(tmp_path, encoder, photos, monkeypatch):
    monkeypatch.setattr("spikeclip.search.index._IVF_LEAST", 900)
    index = Index.create(tmp_path / "db", encoder)
    vectors = fill(index, 1_000)
    with pytest.raises(InputError, match="searched exactly in milliseconds"):
        Index.create(tmp_path / "small", encoder).build_ivf()
    index.build_ivf()
    assert index.stats().ivf
    assert index._current(vectors=True).vectors is None
    for i in (3, 999):
        first, *others = index.search(vectors[i], 10)
        assert first.id == f"0-{i}"
        assert first.score == pytest.approx(1, abs=2e-3)
        assert np.all(np.diff([first.score, *(hit.score for hit in others)]) <= 0)
        assert all(hit.width < 100 for hit in index.search(vectors[i], 10, where="width < 100"))
    index.add(encoder, [photos])
    assert index.search(encoder.encode_image([photos / "0.png"])[0], 1)[0].path == photos / "0.png"
    with pytest.raises(InputError, match="the condition"):
        index.search(vectors[0], where="pth = 1")


def test_an_index_that_is_not_there_or_damaged_is_one_line(index, encoder, tmp_path):
    with pytest.raises(InputError, match="spikeclip index FOLDER --db"):
        Index.open(tmp_path / "absent")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(InputError, match="other things"):
        Index.create(tmp_path / "other", encoder)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / ".lock").touch()  # killed before anything was written
    assert Index.create(tmp_path / "begun", encoder).stats().rows == 0
    (data,) = (index.folder / "pictures.lance" / "data").iterdir()
    data.unlink()
    with pytest.raises(InputError, match=r"the index in .* cannot be used"):
        Index.open(index.folder).search(np.ones(512))
    (index.folder / "index.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        Index.open(index.folder)
