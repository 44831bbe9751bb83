"""Folders of embeddings as clip-retrieval writes and reads them."""

import numpy as np
import pandas
import pytest
from indexed_photos import rows

from spikeclip.errors import InputError
from spikeclip.search import Index, Verified
from spikeclip.search.embeddings import export_embeddings, read_embeddings


@pytest.fixture
def laion(tmp_path):
    """What clip-retrieval's own inference leaves: two files, embeddings of no exact unit length."""
    vectors = np.random.default_rng(0).standard_normal((5, 512)).astype(np.float16)
    for name in ("img_emb", "text_emb", "metadata"):
        (tmp_path / "laion" / name).mkdir(parents=True)
    for number, part in ((0, slice(0, 3)), (1, slice(3, 5))):
        np.save(tmp_path / "laion" / "img_emb" / f"img_emb_{number}.npy", vectors[part])
        np.save(tmp_path / "laion" / "text_emb" / f"text_emb_{number}.npy", vectors[part])
        names = [f"/data/{i}.jpg" for i in range(5)][part]
        about = pandas.DataFrame({"image_path": names, "caption": names, "width": 7})
        about.to_parquet(tmp_path / "laion" / "metadata" / f"metadata_{number}.parquet")
    return tmp_path / "laion", vectors.astype(np.float32)


def test_a_folder_of_others_is_searched(laion, tmp_path, encoder):
    folder, vectors = laion
    index = Index.create(tmp_path / "db", encoder)
    assert read_embeddings(index, folder) == read_embeddings(index, folder) == 5
    assert index.stats().rows == 5
    for i, vector in enumerate(vectors):
        first, second = index.search(vector, 2)
        assert str(first.path) == f"/data/{i}.jpg"
        assert first.width == 7
        assert first.score == pytest.approx(1, abs=1e-3)
        expected = sorted(vectors @ vector / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vector))[-2]
        assert second.score == pytest.approx(expected, abs=1e-3)


def test_files_that_are_here_are_known_and_others_are_not_missed(laion, tmp_path, encoder, photos):
    folder, vectors = laion
    names = [str(photos / "0.png"), "/data/1.jpg", "photos/2.png"]
    pandas.DataFrame({"image_path": names}).to_parquet(folder / "metadata" / "metadata_0.parquet")
    index = Index.create(tmp_path / "db", encoder)
    read_embeddings(index, folder)
    (here,) = index.search(vectors[0], where=f"path = '{names[0]}'")
    facts = (photos / "0.png").stat()
    assert (here.size, here.mtime) == (facts.st_size, facts.st_mtime)
    assert index.verify() == Verified(rows=5, gone=[], changed=[], broken=[], twice=[])
    assert index.add(encoder, [photos]).unchanged == 1
    (photos / "0.png").unlink()
    assert index.verify().gone == [names[0]]


def test_ours_is_read_as_clip_retrieval_reads(index, tmp_path, encoder, monkeypatch):
    monkeypatch.setattr("spikeclip.search.embeddings._SHARD", 2)
    assert export_embeddings(index, tmp_path / "out") == 6
    # Its backend concatenates the files in the order of their names, metadata and embeddings each.
    files = sorted((tmp_path / "out" / "metadata").glob("*.parquet"))
    about = pandas.concat(pandas.read_parquet(file) for file in files)
    vectors = np.concatenate([np.load(file) for file in sorted((tmp_path / "out" / "img_emb").glob("*.npy"))])
    assert vectors.dtype == np.float16
    assert len(files) == 3
    ours = rows(index)
    assert set(about["image_path"]) == ours.keys()
    for path, id, vector in zip(about["image_path"], about["id"], vectors, strict=True):
        assert id == ours[path][0]
        assert np.allclose(vector, np.frombuffer(ours[path][-1], np.float32), atol=1e-3)
    with pytest.raises(InputError, match="is not empty"):
        export_embeddings(index, tmp_path / "out")
    other = Index.create(tmp_path / "again", encoder)
    assert read_embeddings(other, tmp_path / "out") == 6
    assert [hit.path for hit in other.search(vectors[0], 6)] == [
        hit.path for hit in index.search(vectors[0], 6)
    ]


@pytest.mark.parametrize("damage", ["empty", "metadata", "rows", "dim", "nan", "column", "cut"])
def test_folders_that_do_not_fit_are_refused(laion, tmp_path, encoder, damage):
    folder, _ = laion
    first = folder / "img_emb" / "img_emb_0.npy"
    said = {
        "empty": "expected img_emb",
        "metadata": "metadata_1.parquet is missing",
        "rows": "expected as many",
        "dim": "embeddings of 4 numbers",
        "nan": "not numbers",
        "column": "no column image_path",
        "cut": "cannot be read",
    }
    if damage == "empty":
        folder = tmp_path
    elif damage == "metadata":
        (folder / "metadata" / "metadata_1.parquet").unlink()
    elif damage == "column":
        pandas.DataFrame({"url": [1, 2, 3]}).to_parquet(folder / "metadata" / "metadata_0.parquet")
    elif damage == "cut":
        first.write_bytes(first.read_bytes()[:500])
    else:
        shapes = {"rows": (2, 512), "dim": (3, 4), "nan": (3, 512)}
        np.save(first, np.full(shapes[damage], np.nan if damage == "nan" else 1, np.float16))
    index = Index.create(tmp_path / "db", encoder)
    with pytest.raises(InputError, match=said[damage]):
        read_embeddings(index, folder)
    assert index.stats().rows == 0
