import os

import numpy as np
import pytest
from PIL import Image
from small_sources import noise

from spikeclip.errors import InputError


def save(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed)).save(path)


def test_an_image_folder_has_the_classes_of_all_its_splits(tmp_path, load):
    for seed, name in enumerate(["train/cat/b.png", "train/ant/a.PNG", "test/cat/c.png", "test/bee/d.png"]):
        save(tmp_path / "s" / name, seed)
    (tmp_path / "s/test/cat/notes.txt").write_text("not a picture")
    pictures = load(tmp_path / "s", "test")
    assert pictures.classnames == ["ant", "bee", "cat"]
    assert pictures.ids == ["test/bee/d.png", "test/cat/c.png"]
    assert pictures.labels.tolist() == [1, 2]
    assert np.array_equal(pictures.images, np.stack([noise(3), noise(2)]))
    with pytest.raises(InputError, match=r"no split 'val'; found: test, train$"):
        load(tmp_path / "s", "val")


def test_class_folders_alone_are_the_training_split(tmp_path, load):
    save(tmp_path / "s/b/1.png", 0)
    save(tmp_path / "s/a/1.png", 1)
    assert load(tmp_path / "s").classnames == ["a", "b"]
    with pytest.raises(InputError, match=r"no split 'test'; found: train$"):
        load(tmp_path / "s", "test")


def test_a_changed_picture_in_a_folder_is_decoded_again(tmp_path, load):
    save(tmp_path / "s/a/1.png", 0)
    save(tmp_path / "s/b/1.png", 2)
    load(tmp_path / "s")
    save(tmp_path / "s/a/1.png", 1)
    os.utime(tmp_path / "s/a/1.png", ns=(1, 1))
    assert np.array_equal(load(tmp_path / "s").images[0], noise(1))


def test_pictures_without_class_folders_are_an_error(tmp_path, load):
    save(tmp_path / "s/train/1.png", 0)
    with pytest.raises(InputError, match=r"found neither parquet files, pictures in split/class"):
        load(tmp_path / "s")
