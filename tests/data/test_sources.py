import json

import numpy as np
import pytest
from small_sources import class_label, noise, png, write_parquet

from spikeclip.config import ImageFormat
from spikeclip.data import cache as store
from spikeclip.data import load_pictures, locate
from spikeclip.errors import InputError


def same(a, b):
    assert np.array_equal(a.images, b.images)
    assert (a.ids, a.classnames, a.captions, a.skipped) == (b.ids, b.classnames, b.captions, b.skipped)
    assert np.array_equal(a.labels, b.labels)
    assert a.fingerprint == b.fingerprint


def test_parquet_pixels_labels_and_names_arrive_unchanged(folder, load):
    pictures = load(folder)
    kept = [i for i in range(12) if i != 3]
    assert np.array_equal(pictures.images, np.stack([noise(i) for i in kept]))
    assert pictures.labels.tolist() == [0] * 3 + [1] * 8
    assert pictures.classnames == ["dog", "cat"]
    assert pictures.ids == [f"{i}.png" for i in kept]
    assert (pictures.name, pictures.split) == ("set", "train")


def test_a_damaged_picture_is_left_out_named_and_warned_about_every_time(folder, tmp_path):
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"train: 1 pictures cannot be read and are left out: 3\.png"):
            pictures = load_pictures(str(folder), "train", ImageFormat(32), cache=tmp_path / "cache")
        assert list(pictures.skipped) == ["3.png"]
        assert len(pictures) == len(pictures.ids) == len(pictures.labels) == 11


def test_a_split_of_damaged_pictures_only_is_an_error_and_leaves_no_files(load, tmp_path):
    write_parquet(tmp_path / "bad/train.parquet", [b"", b"GIF89a"], {"label": [0, 0]}, class_label("x"))
    with pytest.raises(InputError, match=r"none of the 2 pictures of 'train' can be read"):
        load(tmp_path / "bad")
    assert not list((tmp_path / "cache/pictures").iterdir())


def test_the_second_call_reads_the_cache(folder, load, monkeypatch):
    first = load(folder)
    monkeypatch.setattr(store, "decode", lambda *_: pytest.fail("decoded a second time"))
    second = load(folder)
    same(first, second)
    (pixels,) = second.images.sources
    assert isinstance(pixels, np.memmap)
    pixels[:] = 0
    assert np.any(load(folder).images)  # what is written stays in memory


def test_the_cache_notices_changed_files(folder, load):
    before = load(folder)
    write_parquet(
        folder / "train.parquet", [png(noise(i)) for i in range(2)], {"label": [1, 0]}, class_label("a", "b")
    )
    after = load(folder)
    assert after.classnames == ["a", "b"]
    assert len(after) == 2
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_truncated_cache_file_is_rebuilt(folder, load, tmp_path, suffix):
    first = load(folder)
    (path,) = (tmp_path / "cache/pictures").glob(f"*{suffix}")
    whole = path.read_bytes()
    path.unlink()  # `first` still maps the old file
    path.write_bytes(whole[: len(whole) // 2])
    same(first, load(folder))
    assert path.read_bytes() == whole


def test_pixels_and_particulars_that_do_not_belong_together_are_rebuilt(folder, load, tmp_path):
    first = load(folder)
    (path,) = (tmp_path / "cache/pictures").glob("*.npy")
    path.unlink()
    np.save(path, np.asarray(first.images[:5]))
    same(first, load(folder))


def test_the_cache_holds_nothing_but_pictures(folder, load, tmp_path):
    load(folder)
    assert sorted(path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()) == [
        ".json",
        ".npy",
    ]
    assert len(list((tmp_path / "cache/pictures").iterdir())) == 2


def test_fingerprints_tell_size_limit_and_names_apart(folder, load):
    prints = [
        load(folder, **options).fingerprint
        for options in ({}, {"image_size": 16}, {"limit": 4}, {"classnames": {"dog": "hound"}})
    ]
    assert len(set(prints)) == 4


def test_limit_takes_each_class_in_turn_and_a_larger_limit_contains_a_smaller(folder, load):
    small, large = load(folder, limit=4), load(folder, limit=7)
    assert np.bincount(small.labels).tolist() == [2, 2]
    assert np.bincount(large.labels)[0] == 3
    assert set(small.ids) <= set(large.ids)
    assert load(folder, limit=4).ids == small.ids
    assert len(load(folder, limit=1000)) == 11


def test_the_limit_is_not_the_first_pictures(tmp_path, load):
    blobs = [png(noise(i)) for i in range(60)]
    write_parquet(tmp_path / "s/train.parquet", blobs, {"label": [0] * 60}, class_label("a", "b"))
    ids = load(tmp_path / "s", limit=10).ids
    assert ids != [f"{i}.png" for i in range(10)]
    assert ids == sorted(ids, key=lambda name: int(name[:-4]))


def test_class_names_are_replaced_and_unknown_ones_suggest_the_nearest(folder, load):
    assert load(folder, classnames={"dog": "hound"}).classnames == ["hound", "cat"]
    with pytest.raises(InputError, match=r"unknown class of set 'catt'; did you mean 'cat'\?"):
        load(folder, classnames={"catt": "lion"})


@pytest.mark.parametrize("alias", ["val", "validation", "valid", "dev"])
def test_validation_has_aliases(folder, load, alias):
    pictures = load(folder, alias)
    assert pictures.split == "val"
    assert np.array_equal(pictures.images[0], noise(99))


def test_a_missing_split_lists_those_found(folder, load):
    with pytest.raises(InputError, match=r"no split 'test'; found: train, val$"):
        load(folder, "test")


def test_shards_of_a_split_are_joined_in_order(tmp_path, load):
    for shard in range(2):
        path = tmp_path / f"s/data/train-0000{shard}-of-00002.parquet"
        write_parquet(
            path, [png(noise(shard))], {"label": [shard]}, class_label("a", "b"), paths=[f"{shard}.png"]
        )
    write_parquet(
        tmp_path / "s/data/training_extra.parquet", [png(noise(7))], {"label": [0]}, class_label("a", "b")
    )
    pictures = load(tmp_path / "s")
    assert pictures.ids == ["0.png", "1.png"]
    assert pictures.labels.tolist() == [0, 1]


def test_names_json_and_other_column_names(tmp_path, load):
    blobs = [png(noise(i)) for i in range(2)]
    write_parquet(
        tmp_path / "s/train.parquet", blobs, {"fine_label": [1, 0]}, image="img", paths=[None, None]
    )
    (tmp_path / "s/names.json").write_text(json.dumps(["zebra", "ant"]))
    pictures = load(tmp_path / "s")
    assert pictures.classnames == ["zebra", "ant"]
    assert pictures.labels.tolist() == [1, 0]
    assert pictures.ids == ["train/0", "train/1"]


def test_labels_beyond_the_class_names_are_an_error(tmp_path, load):
    write_parquet(tmp_path / "s/train.parquet", [png(noise(0))], {"label": [2]})
    (tmp_path / "s/names.json").write_text('["a", "b"]')
    with pytest.raises(InputError, match=r"labels run from 2 to 2, with 2 class names"):
        load(tmp_path / "s")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"captions": [["a", "b"], ["c"]]}, [["a", "b"], ["c"]]),
        ({"caption": ["a", "c"]}, [["a"], ["c"]]),
        ({"caption_0": ["a", "c"], "caption_1": ["b", "d"]}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_captions(tmp_path, load, columns, expected):
    write_parquet(tmp_path / "s/train.parquet", [png(noise(0)), png(noise(1))], columns)
    pictures = load(tmp_path / "s")
    assert pictures.captions == expected
    assert pictures.labels is None
    assert pictures.classnames == []


def test_neither_labels_nor_captions_is_an_error(tmp_path, load):
    write_parquet(tmp_path / "s/train.parquet", [png(noise(0))], {"weight": [1.0]})
    with pytest.raises(InputError, match=r"neither labels nor captions"):
        load(tmp_path / "s")


def test_a_file_that_is_no_parquet_is_an_error(tmp_path, load):
    (tmp_path / "s").mkdir()
    (tmp_path / "s/train.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match=r"train\.parquet: not a readable parquet file"):
        load(tmp_path / "s")


@pytest.mark.parametrize("source", ["./missing", "/missing/set", "~/missing/set", "a/b/c"])
def test_a_missing_folder_does_not_go_to_the_hub(load, source):
    with pytest.raises(InputError, match=r"folder .* does not exist"):
        load(source)


def test_a_folder_or_a_known_set_of_a_near_name_is_suggested(tmp_path, folder, load, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locate, "_hub", lambda *_: pytest.fail("looked for on the hub"))
    with pytest.raises(InputError, match=r"^folder './sett' does not exist; did you mean 'set'\?$"):
        load("./sett")
    with pytest.raises(
        InputError, match=rf"^folder '{tmp_path}/st' does not exist; did you mean '{folder}'\?$"
    ):
        load(tmp_path / "st")
    (tmp_path / "data/cifar10").mkdir(parents=True)
    with pytest.raises(
        InputError, match=r"^folder 'data/cifar' does not exist; did you mean 'data/cifar10'\?$"
    ):
        load("data/cifar")  # the folder data is there, so this is no owner/name
    with pytest.raises(InputError, match=r"^'cifar1O' is neither a folder nor .* did you mean 'cifar10'\?$"):
        load("cifar1O")
    with pytest.raises(
        InputError, match=r"^'qqq' is neither a folder nor .* lists those, .* is written owner/name$"
    ):
        load("qqq")


def test_a_file_is_no_source(tmp_path, load):
    (tmp_path / "file.zip").touch()
    with pytest.raises(InputError, match=r"is a file"):
        load(tmp_path / "file.zip")


@pytest.mark.parametrize(("options", "message"), [({"limit": 0}, "limit"), ({"image_size": 0}, "image_size")])
def test_sizes_below_one_are_errors(folder, load, options, message):
    with pytest.raises(InputError, match=message):
        load(folder, **options)


def test_shapes_with_limit_and_names(load):
    pictures = load("shapes", "heldout", limit=26, classnames={"red circle": "crimson disc"})
    assert np.bincount(pictures.labels)[np.unique(pictures.labels)].tolist() == [2] * 13
    assert pictures.classnames[0] == "crimson disc"


@pytest.mark.parametrize(
    ("name", "split", "count"), [("mnist_small", "test", 1000), ("caltech101", "val", 1649)]
)
def test_real_sets(shared, load, name, split, count):
    pictures = load(shared / name, split)
    assert pictures.images.shape == (count, 32, 32, 3)
    assert pictures.classnames == json.loads((shared / name / "names.json").read_text())
    assert len(pictures.labels) == len(set(pictures.ids)) == count
    assert not pictures.skipped


def test_real_captions(shared, load):
    pictures = load(shared / "flickr8k", "val", limit=50)
    assert [len(texts) for texts in pictures.captions] == [5] * 50
