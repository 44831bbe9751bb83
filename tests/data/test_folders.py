import os
import shutil

import numpy as np
import pytest
from PIL import Image
from small_sources import noise

from spikeclip.config import ImageFormat
from spikeclip.data import load_pictures
from spikeclip.data.readers.listing import in_order
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


def classes(folder, *names):
    """Class folders of two pictures each."""
    for seed, name in enumerate(names):
        save(folder / name / "1.png", 2 * seed)
        save(folder / name / "2.png", 2 * seed + 1)


@pytest.mark.parametrize(
    "ending", ["jfif", "JPE", "avif", "ppm", "tiff", "bmp", "gif", "webp", "apng", "pgm"]
)
def test_a_class_of_pictures_with_another_ending_is_read(ending, tmp_path, load):
    classes(tmp_path / "s", "ant", "bee")
    Image.fromarray(noise(9)).convert("L" if ending == "pgm" else "RGB").save(
        tmp_path / "s/bee" / f"3.{ending}"
    )
    pictures = load(tmp_path / "s")
    assert pictures.ids[2:] == ["bee/1.png", "bee/2.png", f"bee/3.{ending}"]
    assert not pictures.skipped


def test_what_is_no_picture_is_counted_and_named_with_the_reason(tmp_path, load):
    classes(tmp_path / "s", "ant", "bee", "fly")
    for name in ("fly/1.png", "fly/2.png"):
        (tmp_path / "s" / name).with_suffix(".heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
        (tmp_path / "s" / name).unlink()
    (tmp_path / "s/ant/notes.md").write_text("")
    (tmp_path / "s/ant/gone").symlink_to("nowhere")
    (tmp_path / "s/moth").mkdir()
    (tmp_path / "s/wasp").mkdir()
    (tmp_path / "s/wasp/1.mp4").write_text("")
    save(tmp_path / "s/loose.png", 8)
    for hidden in ("ant/.DS_Store", "ant/Thumbs.db", "ant/._1.png"):
        (tmp_path / "s" / hidden).write_text("")
    save(tmp_path / "s/.cache/1.png", 8)
    with pytest.warns(UserWarning, match="are left out") as warned:
        pictures = load_pictures(str(tmp_path / "s"), "train", ImageFormat(32), cache=tmp_path / "cache")
    assert pictures.classnames == ["ant", "bee", "fly"]
    assert pictures.skipped == {
        "loose.png": "a picture in no class folder",
        "fly/1.heic": "HEIC, which Pillow alone does not read: save it as JPEG",
        "fly/2.heic": "HEIC, which Pillow alone does not read: save it as JPEG",
    }
    assert pictures.others == {
        "wasp": "a class folder without a picture",
        "moth": "an empty folder",
        "ant/gone": "a link that leads nowhere",
        "ant/notes.md": "not a picture by its ending",
        "wasp/1.mp4": "not a picture by its ending",
    }
    lost, passed = (str(each.message) for each in warned)
    source = tmp_path / "s"
    assert lost.startswith(
        f"{source} train: 3 pictures cannot be read and are left out: loose.png (a picture in no"
    )

    assert "lists all" not in lost
    assert passed.startswith(
        f"{source} train: 5 files or folders are no pictures and are passed over: wasp (a class"
    )
    assert passed.endswith(f", ...; `spikeclip data show {source} --split train` lists all")


def test_a_class_folder_may_be_a_link(tmp_path, load):
    classes(tmp_path / "s/train", "ant", "bee")
    shutil.move(tmp_path / "s/train/bee", tmp_path / "elsewhere")
    (tmp_path / "s/train/bee").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "s/test").symlink_to("train")
    for split in ("train", "test"):
        pictures = load(tmp_path / "s", split)
        assert pictures.ids == [f"{split}/{name}.png" for name in ("ant/1", "ant/2", "bee/1", "bee/2")]
        assert np.array_equal(pictures.images, np.stack([noise(seed) for seed in range(4)]))
        assert not pictures.skipped


def test_links_that_lead_back_or_to_one_folder_twice_are_read_once_and_named(tmp_path, load):
    classes(tmp_path / "s", "ant", "bee")
    (tmp_path / "s/ant/all").symlink_to(tmp_path / "s")
    (tmp_path / "s/aaa").symlink_to("bee")
    (tmp_path / "s/bee/up").symlink_to("..")
    pictures = load(tmp_path / "s")
    assert pictures.ids == ["ant/1.png", "ant/2.png", "bee/1.png", "bee/2.png"]
    again = "a link to a folder that is read already"
    assert pictures.others == {"aaa": again, "ant/all": again, "bee/up": again}


def test_a_folder_inside_a_class_folder_belongs_to_the_class(tmp_path, load):
    classes(tmp_path / "s", "ant", "bee/queens", "bee")
    pictures = load(tmp_path / "s")
    assert pictures.classnames == ["ant", "bee"]
    assert pictures.labels.tolist() == [0, 0, 1, 1, 1, 1]


def test_numbers_are_in_the_order_of_numbers(tmp_path, load):
    classes(tmp_path / "s", "10", "2", "0", "1", "background")
    pictures = load(tmp_path / "s")
    assert pictures.classnames == ["0", "1", "2", "10", "background"]
    assert {
        key: pictures.classnames[label] for key, label in zip(pictures.ids, pictures.labels, strict=True)
    } == {key: key.split("/")[0] for key in pictures.ids}
    assert in_order(["-1", "b", "007", "7", "9" * 5000, "a", "10", "7"]) == [
        "007",
        "7",
        "10",
        "-1",
        "9" * 5000,
        "a",
        "b",
    ]


@pytest.mark.parametrize("place", ["images", "train/images", "."])
def test_pictures_in_one_folder_beside_a_table_are_no_classification(place, tmp_path, load):
    for seed in range(3):
        save(tmp_path / "s" / place / f"{seed}.png", seed)
    (tmp_path / "s/labels.csv").write_text("0.png,ant\n")
    wanted = "one class is no classification; " if place != "." else r"event recordings \(.npz\); "
    with pytest.raises(
        InputError, match=wanted + r"found 3 pictures in \S+ beside labels.csv: put the pictures of each"
    ):
        load(tmp_path / "s")


def test_a_name_that_is_no_text_is_read_and_named(tmp_path, load):
    classes(tmp_path / "s", "ant", "bee")
    os.rename(tmp_path / "s/ant/1.png", os.fsencode(tmp_path) + b"/s/ant/\xff\n.png")
    os.rename(tmp_path / "s/bee/1.png", os.fsencode(tmp_path) + b"/s/bee/\xff")
    warning = (
        r"1 files or folders are no pictures and are passed over: bee/\\udcff \(not a picture by its ending"
    )
    for _ in range(2):  # decoded, then from the cache
        with pytest.warns(UserWarning, match=warning):
            pictures = load_pictures(str(tmp_path / "s"), "train", ImageFormat(32), cache=tmp_path / "cache")
        assert pictures.ids == ["ant/2.png", "ant/\udcff\n.png", "bee/2.png"]


def test_a_link_to_itself_is_named_and_the_rest_is_read(tmp_path, load):
    classes(tmp_path / "s", "ant", "bee")
    (tmp_path / "s/loop").symlink_to("loop")
    (tmp_path / "s/ant/loop.png").symlink_to("loop.png")
    (tmp_path / "s/ant/around").symlink_to("around")
    pictures = load(tmp_path / "s")
    assert pictures.ids == ["ant/1.png", "ant/2.png", "bee/1.png", "bee/2.png"]
    assert pictures.others.keys() == {"loop", "ant/around"}
    assert pictures.skipped.keys() == {"ant/loop.png"}
