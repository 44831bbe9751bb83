import json

import numpy as np
import pytest
from small_sources import noise, png, write_tar

from spikeclip.data import load_prompts
from spikeclip.errors import InputError


@pytest.fixture
def shards(tmp_path):
    """Eleven shards of one picture each, as CLIP_benchmark lays them out; picture 3 is damaged."""
    for i in range(11):
        blob = png(noise(i))
        write_tar(
            tmp_path / f"set/test/{i}.tar", {f"s{i}.cls": i % 2, f"s{i}.png": blob[:200] if i == 3 else blob}
        )
    (tmp_path / "set/test/nshards.txt").write_text("11\n")
    (tmp_path / "set/classnames.txt").write_text("dog\nsea horse\n")
    (tmp_path / "set/zeroshot_classification_templates.txt").write_text("a {c}.\nthe {c}.\n")
    return tmp_path / "set"


def test_pictures_labels_and_names_in_the_order_of_the_shards(shards, load):
    pictures = load(shards, "test")
    kept = [i for i in range(11) if i != 3]
    assert np.array_equal(pictures.images, np.stack([noise(i) for i in kept]))
    assert pictures.labels.tolist() == [i % 2 for i in kept]
    assert pictures.classnames == ["dog", "sea horse"]
    assert pictures.ids == [f"s{i}" for i in kept]
    assert list(pictures.skipped) == ["s3"]
    with pytest.raises(InputError, match=r"has no split 'train'; found: test$"):
        load(shards, "train")


def test_the_folder_brings_prompts(shards):
    prompts = load_prompts(str(shards))
    assert (prompts.classnames, prompts.templates) == (["dog", "sea horse"], ["a {c}.", "the {c}."])
    (shards / "zeroshot_classification_templates.txt").unlink()
    with pytest.raises(InputError, match=r"zeroshot_classification_templates\.txt"):
        load_prompts(str(shards))


def test_captions_one_a_line_and_a_sample_without_its_picture(tmp_path, load):
    files = {
        "a/1.jpg": png(noise(1)),
        "a/1.txt": "one\ntwo \n",
        "a/2.txt": "three",
        "a/3.webp": png(noise(3)),
    }
    files |= {"a/3.txt": "four", "readme": "no sample"}
    write_tar(tmp_path / "s/train-000000.tar", files)
    write_tar(tmp_path / "s/train-000001.tar", {"a/1.jpg": png(noise(4)), "a/1.txt": "five"})
    pictures = load(tmp_path / "s")
    assert pictures.captions == [["one", "two "], ["four"], ["five"]]
    assert pictures.labels is None
    assert pictures.ids == ["train-000000/a/1", "train-000000/a/3", "train-000001/a/1"]
    assert list(pictures.skipped) == ["train-000000/a/2"]
    assert np.array_equal(pictures.images, np.stack([noise(i) for i in (1, 3, 4)]))


def test_labels_and_captions_in_json(tmp_path, load):
    about = {"label": 1, "caption": "a red thing", "url": "ignored"}
    write_tar(tmp_path / "s/train/0.tar", {"1.png": png(noise(1)), "1.json": json.dumps(about)})
    pictures = load(tmp_path / "s")
    assert pictures.labels.tolist() == [1]
    assert pictures.classnames == ["0", "1"]
    assert pictures.captions == [["a red thing"]]


def test_changed_shards_are_read_again(shards, load):
    before = load(shards, "test")
    (shards / "classnames.txt").write_text("dog\nseahorse of another name\n")
    assert load(shards, "test").classnames == ["dog", "seahorse of another name"]
    write_tar(
        shards / "test/0.tar", {"t.png": png(noise(50)), "t.cls": 1, "u.png": png(noise(51)), "u.cls": 0}
    )
    after = load(shards, "test")
    assert len(after) == len(before) + 1
    assert np.array_equal(after.images[1], noise(51))


def test_missing_and_damaged_shards_are_errors(shards, load):
    whole = (shards / "test/4.tar").read_bytes()
    (shards / "test/4.tar").write_bytes(whole[:700])
    with pytest.raises(InputError, match=r"4\.tar: not a whole tar archive .*: fetch it again"):
        load(shards, "test")
    (shards / "test/4.tar").unlink()
    with pytest.raises(InputError, match=r"test holds 10 shards, nshards.txt says 11: fetch the others"):
        load(shards, "test")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.png": b"", "1.cls": "cat"}, r"s: 1: expected the number of a class, got b'cat'"),
        ({"1.png": b"", "1.json": "{"}, r"s: 1\.json: not valid JSON"),
        ({"1.png": b"", "1.json": "[1]"}, r"s: 1\.json: expected a table"),
        ({"1.png": b"", "1.json": '{"caption": 3}'}, r"s: 1 holds 3 where captions were expected"),
        ({"1.png": b"", "2.cls": "1"}, r"1 of 2 samples have no label, such as '1'"),
        ({"1.png": b"", "2.txt": "a"}, r"1 of 2 samples have no caption, such as '1'"),
        ({"1.png": b""}, r"neither labels \(\.cls\) nor captions \(\.txt\)"),
        ({"1.png": b"", "1.cls": "5"}, r"labels run from 5 to 5, with 2 class names"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, load, files, message):
    write_tar(tmp_path / "s/train/0.tar", files)
    (tmp_path / "s/names.json").write_text('["a", "b"]')
    with pytest.raises(InputError, match=message):
        load(tmp_path / "s")
