"""Searches: exact, in order, in pages, under conditions, and what another handle sees; approximate ones."""

import json
import math

import lancedb.index
import numpy as np
import pytest
from indexed_photos import Counting, change, draw

from spikeclip.errors import InputError
from spikeclip.search import Index, query_vector
from spikeclip.search.codes import encode
from spikeclip.search.store import as_batch


def draws(count: int, kind: str, seed: int) -> np.ndarray:
    """Unit rows (count, 512) in all directions, or around some that have much in common."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 512), dtype=np.float32)
    if kind == "clustered":
        centres = 1 + np.random.default_rng(99).standard_normal((100, 512), dtype=np.float32)
        vectors = 0.7 * vectors + centres[rng.integers(0, 100, count)]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(index, count: int, seed: int = 0, kind: str = "random") -> np.ndarray:
    """Rows in the table, (count, 512) float16."""
    vectors = draws(count, kind, seed).astype(np.float16)
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


@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_an_approximate_search_finds_nearly_all_in_the_same_order(tmp_path, encoder, kind, monkeypatch):
    monkeypatch.setattr("spikeclip.search.codes._LEAST", 2_000)
    index, other = Index.create(tmp_path / "db", encoder), Index.open(tmp_path / "db")
    fill(index, 16_000, kind=kind)
    queries = draws(10, kind, seed=1)
    exact = [{hit.id: (i, hit) for i, hit in enumerate(other.search(query, 1000))} for query in queries]
    index.set_approximate(True)
    assert index.stats().approximate
    found = [other.search(query, 10) for query in queries]  # sees it without being opened again
    assert other._current().codes is not None
    for hits, known in zip(found, exact, strict=True):
        assert [known[hit.id][1] for hit in hits] == hits  # the very scores too
        assert [known[hit.id][0] for hit in hits] == sorted(known[hit.id][0] for hit in hits)
    missed = sum(
        10 - sum(known[hit.id][0] < 10 for hit in hits) for hits, known in zip(found, exact, strict=True)
    )
    assert missed <= 5  # of 100

    small = other.search(queries[0], 10, where="width < 1500")  # so few are compared exactly
    assert small == [hit for _, hit in exact[0].values() if hit.width < 1500][:10]
    many = other.search(queries[0], 10, where="width >= 1500")
    assert len(many) == 10
    assert {hit.id for hit in many} < set(exact[0])
    assert all(hit.width >= 1500 for hit in many)
    pages = [hit for offset in range(0, 30, 10) for hit in other.search(queries[0], 10, offset=offset)]
    assert pages == other.search(queries[0], 30)

    index._pictures.delete(f"id = '{found[0][0].id}'")
    more = fill(index, 300, seed=2, kind=kind)
    assert other.search(more[7], 1)[0].id == "2-7"
    assert found[0][0].id not in {hit.id for hit in other.search(queries[0], 10)}
    index.set_approximate(False)
    fresh = Index.open(tmp_path / "db")
    assert [hit.id for hit in other.search(queries[1], 1000)] == [
        hit.id for hit in fresh.search(queries[1], 1000)
    ]
    assert other._current().codes is None


def test_the_setting_outlives_what_other_handles_write(index, encoder, photos, tmp_path):
    other = Index.open(index.folder)
    index.set_approximate(True)
    draw(tmp_path / "more" / "1.png", 41)
    other.add(encoder, [tmp_path / "more"])
    index.remove([photos / "1.png"])
    assert index.stats().approximate
    assert Index.create(index.folder, encoder, rebuild=True).stats().approximate


def test_an_index_of_lancedb_from_before_is_passed_over(tmp_path, encoder):
    index = Index.create(tmp_path / "db", encoder)
    vectors = fill(index, 1_000)
    config = lancedb.index.IvfFlat(distance_type="dot", num_partitions=8)
    index._pictures.create_index("embedding", config=config)
    about = json.loads((index.folder / "index.json").read_text())
    del about["approximate"]
    (index.folder / "index.json").write_text(json.dumps(about))
    old = Index.open(index.folder)
    assert not old.stats().approximate
    fill(old, 10, seed=2)
    old.compact()
    scores = vectors.astype(np.float32) @ vectors[3].astype(np.float32)
    found = [hit.id for hit in old.search(vectors[3], 200, where="path LIKE '/0/%'")]
    assert found == [f"0-{i}" for i in np.argsort(-scores, kind="stable")[:200]]


@pytest.mark.parametrize("dim", [24, 64, 100, 512])
def test_codes_of_any_width_find_the_nearest_and_bear_rows_without_numbers(monkeypatch, dim):
    monkeypatch.setattr("spikeclip.search.codes._LEAST", 500)
    rng = np.random.default_rng(dim)
    rows = rng.standard_normal((20_000, dim)).astype(np.float16) / np.float16(dim**0.5)
    rows[5::1000] = np.nan
    rows[7] = 0
    codes = encode(rows)
    for place in (0, 1234, 19_999):
        vector = rows[place].astype(np.float32)
        found = codes.candidates(vector, 10)
        assert 500 <= len(found) < 800
        assert place in found
        assert (np.diff(found) > 0).all()
        asked = np.arange(0, 20_000, 2)
        assert set(codes.candidates(vector, 10, asked)) < set(asked)
        assert codes.candidates(vector, 10, asked[:500]).tolist() == asked[:500].tolist()
    assert codes.candidates(codes.mean_D, 10) is not None
    assert codes.candidates(vector, 20_000) is None
    same = encode(np.broadcast_to(rows[0], rows.shape).copy())
    assert len(same.candidates(rows[0].astype(np.float32), 10)) == 20_000


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
