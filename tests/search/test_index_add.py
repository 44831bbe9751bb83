"""An index follows its folders: what is new, changed, moved, gone, double or unreadable."""

import os
import shutil
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from indexed_photos import change, draw, rows

from spikeclip.errors import InputError
from spikeclip.search import Index


def counts(added):
    return {name: getattr(added, name) for name in ("added", "unchanged", "moved", "changed", "removed")}


def only(**expected):
    return {**dict.fromkeys(("added", "unchanged", "moved", "changed", "removed"), 0), **expected}


def test_what_has_not_changed_is_not_embedded_again(index, encoder, photos):
    encoder.pictures = 0
    assert counts(index.add(encoder, [photos])) == only(unchanged=6)
    os.utime(photos / "0.png", (1000, 1000))
    assert counts(index.add(encoder, [photos])) == only(unchanged=6)
    assert rows(index)[str(photos / "0.png")][2] == 1000
    assert encoder.pictures == 0
    assert not index.verify().changed


def test_a_changed_file_has_its_new_embedding(index, encoder, photos):
    before = rows(index)
    change(photos / "2.png", 99)
    assert index.verify().changed == [str(photos / "2.png")]
    assert counts(index.add(encoder, [photos])) == only(unchanged=5, changed=1)
    after = rows(index)
    assert {path for path in after if after[path] != before[path]} == {str(photos / "2.png")}
    fresh = encoder.encode_image([photos / "2.png"])[0]
    (hit,) = index.search(fresh, 1)
    assert hit.path == photos / "2.png"
    assert hit.score == pytest.approx(1, abs=1e-3)


def test_a_moved_file_keeps_its_row_and_is_not_embedded_again(index, encoder, photos):
    before, encoder.pictures = rows(index), 0
    (photos / "new").mkdir()
    (photos / "3.png").rename(photos / "new" / "three.png")
    assert counts(index.add(encoder, [photos])) == only(unchanged=5, moved=1)
    after = rows(index)
    assert after[str(photos / "new" / "three.png")] == before[str(photos / "3.png")]
    assert len(after) == 6
    assert encoder.pictures == 0


def test_files_of_equal_content_are_both_found(index, encoder, photos):
    encoder.pictures = 0
    shutil.copy(photos / "1.png", photos / "copy.png")
    draw(photos / "twin-a.png", 77)
    shutil.copy(photos / "twin-a.png", photos / "twin-b.png")
    assert index.add(encoder, [photos]).added == 3
    assert encoder.pictures == 2  # of the two that came together, each; of the copy, none
    first, second = index.search(index.vector(index.search(np.ones(512), 1)[0].id), 2)
    for name, other in (("1.png", "copy.png"), ("twin-a.png", "twin-b.png")):
        embedded = encoder.encode_image([photos / name])[0]
        first, second = index.search(embedded, 2)
        assert {first.path.name, second.path.name} == {name, other}
        assert first.id == second.id
        assert first.score == second.score
    (photos / "copy.png").unlink()
    index.add(encoder, [photos])
    assert len(rows(index)) == 8  # its content is there once more, so that it counts as moved


def test_files_that_are_gone_are_dropped_by_prune_alone(index, encoder, photos):
    (photos / "4.png").unlink()
    assert counts(index.add(encoder, [photos])) == only(unchanged=5)
    assert index.verify().gone == [str(photos / "4.png")]
    assert counts(index.add(encoder, [photos], prune=True)) == only(unchanged=5, removed=1)
    assert str(photos / "4.png") not in rows(index)


def test_a_folder_whose_disk_is_not_there_is_not_pruned(index, encoder, photos):
    for file in photos.iterdir():
        file.unlink()
    with pytest.raises(InputError, match="is its disk there"):
        index.add(encoder, [photos], prune=True)
    assert index.stats().rows == 6
    photos.rmdir()
    with pytest.raises(InputError, match="no such folder"):
        index.add(encoder, prune=True)
    assert index.remove([photos]) == 6
    assert index.stats().folders == []


def png_of(width: int, height: int) -> bytes:
    """A PNG whose pixels are not there."""

    def chunk(content: bytes) -> bytes:
        return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR" + head) + chunk(b"IDAT")


def test_unreadable_files_are_named_and_tried_again_when_they_change(index, encoder, photos):
    (photos / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (photos / "huge.png").write_bytes(png_of(10_001, 10_000))
    (photos / "nowhere.png").symlink_to("absent")
    added = index.add(encoder, [photos])
    assert {Path(path).name for path in added.unreadable} == {"cut.jpg", "huge.png", "nowhere.png"}
    assert "10,001 x 10,000 pixels" in added.unreadable[str(photos / "huge.png")]
    assert index.stats().unreadable.keys() == {str(photos / "cut.jpg"), str(photos / "huge.png")}

    later = os.stat(photos / "cut.jpg").st_mtime
    draw(photos / "whole.jpg", 5)
    content = (photos / "whole.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(content[:14].ljust(os.stat(photos / "cut.jpg").st_size, b"\0")[:20])
    os.utime(photos / "cut.jpg", (later, later))
    assert str(photos / "cut.jpg") in index.add(encoder, [photos]).unreadable
    (photos / "whole.jpg").rename(photos / "cut.jpg")
    assert str(photos / "cut.jpg") not in index.add(encoder, [photos]).unreadable
    assert str(photos / "cut.jpg") in rows(index)
    assert index.stats().unreadable.keys() == {str(photos / "huge.png")}

    (photos / "0.png").write_bytes(b"no picture any more")
    assert str(photos / "0.png") in index.add(encoder, [photos]).unreadable
    assert str(photos / "0.png") not in rows(index)
    (photos / "huge.png").unlink()
    index.add(encoder, [photos])
    assert index.stats().unreadable.keys() == {str(photos / "0.png")}


def test_what_is_no_picture_of_the_user_is_passed_over(index, encoder, photos, monkeypatch):
    for name in (".hidden.png", "._0.png", ".cache/1.png", "Thumbs.db"):
        draw(photos / "x.png", 50).rename((photos / name).parent.mkdir(exist_ok=True) or photos / name)
    (photos / "loop").symlink_to(photos)
    monkeypatch.chdir(photos)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        os.mkfifo(photos / "pipe.png")
        added = index.add(encoder, [photos])
    assert counts(added) == only(unchanged=6)
    assert not added.unreadable


def test_names_are_names_whatever_is_in_them(index, encoder, photos):
    odd = [photos / name for name in ('it\'s 100% "_".png', "été \n 雪.png", "a; DROP TABLE pictures --.png")]
    for i, file in enumerate(odd):
        draw(file, 60 + i)
    (photos / os.fsdecode(b"\xff.png")).write_bytes(odd[0].read_bytes())
    added = index.add(encoder, [photos])
    assert counts(added) == only(added=3, unchanged=6)
    assert list(added.unreadable.values()) == ["its name is not UTF-8: rename it"]
    assert {str(file) for file in odd} < rows(index).keys()
    change(odd[0], 90)
    odd[1].unlink()
    assert counts(index.add(encoder, [photos], prune=True)) == only(unchanged=7, changed=1, removed=1)
    assert index.remove([odd[2]]) == 1
    assert index.stats().rows == 7


def test_another_model_is_refused_with_the_command_that_rebuilds(index, encoder, shipped, tmp_path, photos):
    other = type(encoder)(shipped, fingerprint="0" * 64, name="other")
    for attempt in (lambda: Index.create(tmp_path / "db", other), lambda: index.add(other, [photos])):
        with pytest.raises(
            InputError, match=f"spikeclip index --db {tmp_path / 'db'} --model other --rebuild"
        ):
            attempt()
    again = Index.create(tmp_path / "db", other, rebuild=True)
    assert again.stats().rows == 0
    assert again.add(other).added == 6
    assert Index.open(tmp_path / "db").fingerprint == "0" * 64


def test_one_process_writes_at_a_time(index, encoder, photos):
    from spikeclip.search.store import writing

    with writing(index.folder), pytest.raises(InputError, match="writes in"):
        index.add(encoder, [photos])
    assert index.add(encoder, [photos]).unchanged == 6
