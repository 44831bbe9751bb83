"""An index that is damaged, made anew or taken away, also while it is searched; and names that no table can hold."""

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from indexed_photos import draw

from spikeclip.errors import InputError
from spikeclip.search import Index


def found(index):
    return {(hit.path.name, round(hit.score, 5)) for hit in index.search(np.ones(index.dim), 100)}


def test_an_index_made_anew_by_another_process_is_seen_by_one_that_is_open(index, encoder, photos):
    assert len(found(index)) == 6
    for file in photos.iterdir():
        file.unlink()
    for i in range(3):
        draw(photos / f"new {i}.png", 100 + i)
    other = Index.create(index.folder, encoder, rebuild=True)
    other.add(encoder, [photos])
    assert found(index) == found(other)
    assert {name for name, _ in found(index)} == {"new 0.png", "new 1.png", "new 2.png"}
    shutil.rmtree(index.folder)
    with pytest.raises(InputError, match="cannot be used"):
        index.search(np.ones(index.dim))
    Index.create(index.folder, encoder).add(encoder, [photos / "new 1.png"])
    assert {name for name, _ in found(index)} == {"new 1.png"}


def test_an_index_made_anew_by_another_model_is_not_searched_any_more(index, encoder, shipped):
    found(index)
    Index.create(index.folder, type(encoder)(shipped, fingerprint="0" * 64, name="other"), rebuild=True)
    with pytest.raises(InputError, match="made anew by another model"):
        found(index)


@pytest.mark.parametrize("kind", ["data", "_versions"])
def test_damaged_files_of_the_tables_are_an_input_error(index, kind):
    def use():
        opened = Index.open(index.folder)
        found(opened)
        opened.verify()
        opened.stats()

    for file in sorted(index.folder.glob(f"*.lance/{kind}/*")):
        content = file.read_bytes()
        for broken in (b"", bytes(len(content)), content[: len(content) // 2], content[::-1]):
            file.write_bytes(broken)
            with suppress(InputError):  # nothing else; and an older version may do
                use()
        file.write_bytes(content)
    use()


def test_a_path_that_is_too_long_or_not_utf8_is_passed_over(index, encoder, photos, monkeypatch):
    monkeypatch.chdir(photos)
    for _ in range(25):
        Path("d" * 200).mkdir()
        monkeypatch.chdir("d" * 200)
    draw(Path("deep.png"), 50)
    draw(photos / "new.png", 51)
    monkeypatch.chdir(photos)
    assert index.add(encoder, [photos]).added == 1
    with pytest.raises(InputError, match="is not UTF-8"):
        Index.create(photos / "\udcff", encoder)
