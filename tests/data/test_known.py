import json

import numpy as np
import pytest
from huggingface_hub import HfApi
from small_sources import class_label, noise, png, write_parquet

from spikeclip.config import ImageFormat
from spikeclip.data import Splits, known_datasets, load_pictures, load_prompts, load_training
from spikeclip.data.locate import find_source
from spikeclip.errors import InputError

CIFAR10 = load_prompts("cifar10").classnames


@pytest.fixture
def known(tmp_path, monkeypatch):
    """Put a known data set into $SPIKECLIP_DATA; returns a function (name, {split: labels}, class names)."""
    monkeypatch.setenv("SPIKECLIP_DATA", str(tmp_path))

    def make(name, splits, names):
        for number, (split, labels) in enumerate(splits.items()):
            blobs = [png(noise(100 * number + i)) for i in range(len(labels))]
            write_parquet(tmp_path / name / f"{split}.parquet", blobs, {"label": labels}, class_label(*names))

    return make


@pytest.fixture
def no_hub(monkeypatch):
    def fail(*_args, **_options):
        raise ConnectionError

    monkeypatch.setattr(HfApi, "dataset_info", fail)


def test_every_entry_says_what_is_needed_to_read_it():
    assert list(known_datasets()) == [
        *("cifar10", "cifar100", "stl10", "flowers102", "pets", "caltech101", "tinyimagenet", "imagenet1k"),
        *("flickr8k", "flickr30k", "coco"),
    ]
    for known in known_datasets().values():
        assert {"train", "test"} <= known.splits.keys() <= {"train", "val", "test"}
        assert all(size >= 1000 for _, size in known.splits.values())
        assert known.hub.count("/") == 1
        assert known.task in ("classification", "captions")
        if known.task == "classification" and known.names == "ours":
            assert len(set(load_prompts(known.name).classnames)) == known.classes
        elif known.task == "classification":
            assert load_prompts(known.name).templates


def test_a_known_name_is_its_folder_in_the_data_folder_with_our_class_names(known, load, tmp_path):
    wnids = load_prompts("imagenet1k").ids
    known("imagenet1k", {"train": [0, 999], "validation": [980]}, wnids)
    pictures = load("imagenet1k", "test")
    assert (pictures.name, pictures.split) == ("imagenet1k", "validation")
    assert pictures.classnames[pictures.labels[0]] == "volcano"
    by_path = load(tmp_path / "imagenet1k", "validation")
    assert by_path.classnames == wnids
    assert by_path.fingerprint != pictures.fingerprint


def test_a_name_without_a_folder_there_is_on_the_hub_and_never_in_the_working_directory(
    known, load, no_hub, tmp_path, monkeypatch
):
    known("elsewhere/cifar10", {"test": [0]}, CIFAR10)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(
        InputError, match=r"cifar10 is 'uoft-cs/cifar10' on the Hugging Face hub, which could not"
    ):
        load("cifar10", "test")
    assert len(load("./cifar10", "test")) == 1
    monkeypatch.setenv("SPIKECLIP_DATA", str(tmp_path / "elsewhere"))
    assert len(load("cifar10", "test")) == 1
    monkeypatch.setenv("SPIKECLIP_DATA", "missing")
    with pytest.raises(InputError, match="SPIKECLIP_DATA is 'missing', which is not a folder"):
        load("cifar10", "test")


def test_an_unreachable_hub_says_what_to_do_and_a_near_name_which_was_meant(load, no_hub):
    with pytest.raises(InputError, match=r"could not be reached: fetch it once .* holds it as stl10/$"):
        load("stl10")
    with pytest.raises(InputError, match=r"did you mean 'imagenet1k'\?"):
        load("imagenet-1k")


def test_classes_in_another_order_are_refused(known, load):
    known("cifar10", {"test": [0]}, [CIFAR10[1].upper(), CIFAR10[0], *CIFAR10[2:]])
    with pytest.raises(InputError, match="another order: label 0 is 'AUTOMOBILE' in the data and 'airplane'"):
        load("cifar10", "test")
    known("cifar10", {"test": [0]}, CIFAR10[:9])
    with pytest.raises(InputError, match="have 10 classes, cifar10 has 9"):
        load("cifar10", "test")


def test_classes_are_renamed_after_ours_are_in_place(known, load):
    known(
        "pets", {"test": [14]}, [name.lower().replace(" ", "_") for name in load_prompts("pets").classnames]
    )
    assert load("pets", "test").classnames[14] == "German shorthaired pointer"
    assert load("pets", "test", classnames={"pug": "dog"}).classnames[25] == "dog"


def test_caltech101_keeps_the_classes_of_its_source(known, load):
    known("caltech101", {"test": [1]}, ["accordion", "background_google"])
    assert load("caltech101", "test").classnames == ["accordion", "background_google"]


@pytest.mark.parametrize(
    ("name", "splits", "expected"),
    [
        ("flowers102", ("train", "validation", "test"), "validation"),
        ("caltech101", ("train", "val", "test"), "val"),
        ("tinyimagenet", ("train", "valid"), None),  # its validation split is what is tested
        ("cifar10", ("train", "test"), None),
    ],
)
def test_the_validation_split_of_a_known_set(known, name, splits, expected):
    known(name, {split: [0] for split in splits}, ["a"])
    assert find_source(name).validation("train", "test") == expected
    assert find_source(name).validation("train") == expected


def test_a_folders_validation_split_serves_for_selection_unless_it_is_tested(folder, tmp_path):
    train, val = load_training(str(folder), ImageFormat(32), Splits(0.3), cache=tmp_path / "cache")
    assert (len(train), val.split, len(val)) == (11, "val", 1)
    train, val = load_training(
        str(folder), ImageFormat(32), Splits(0.3, test="validation"), cache=tmp_path / "cache"
    )
    assert (train.split, val.split) == ("train", "train")
    assert len(train) + len(val) == 11
    assert not set(train.ids) & set(val.ids)


def test_without_a_validation_split_a_fixed_part_is_drawn_by_the_seed(known, tmp_path):
    known("cifar10", {"train": [0, 1] * 10}, CIFAR10)

    def ids(seed):
        train, val = load_training("cifar10", ImageFormat(32), Splits(0.2, seed), cache=tmp_path / "cache")
        assert np.bincount(val.labels).tolist() == [2, 2]
        assert sorted([*train.ids, *val.ids]) == sorted(f"{i}.png" for i in range(20))
        return val.ids

    assert ids(0) == ids(0) != ids(1)


def test_classes_that_training_lacks_are_not_selected_by(known, tmp_path):
    known("caltech101", {"train": [0, 0, 2, 2], "val": [0, 1, 2]}, ["a", "b", "c"])
    with pytest.warns(UserWarning, match=r"caltech101 val: training has no pictures of 1 of its classes: b$"):
        _, val = load_training("caltech101", ImageFormat(32), Splits(0.5), cache=tmp_path / "cache")
    assert val.labels.tolist() == [0, 2]
    known("caltech101", {"train": [0], "val": [1]}, ["a", "b", "c"])
    with pytest.raises(
        InputError, match="leave none for validation: this needs pictures of the same classes in"
    ):
        load_training("caltech101", ImageFormat(32), Splits(0.5), cache=tmp_path / "cache")


def test_too_few_pictures_name_a_setting_only_where_there_is_one(tmp_path):
    write_parquet(tmp_path / "s/train.parquet", [png(noise(0))], {"label": [0]}, class_label("a", "b"))
    for name, end in (
        ("", "needs more pictures"),
        ("--val-fraction", "more pictures, or a larger --val-fraction"),
    ):
        with pytest.raises(
            InputError, match=f"1 pictures of 'train' leave none for validation: this .*{end}$"
        ):
            load_training(
                str(tmp_path / "s"), ImageFormat(8), Splits(0.1, set_by=name), cache=tmp_path / "cache"
            )


def test_real_sets_by_name(shared, tmp_path, monkeypatch):
    for name, folder in {
        "cifar10": "cifar10",
        "tinyimagenet": "tinyimagenet32",
        "flickr8k": "flickr8k",
    }.items():
        (tmp_path / name).symlink_to(shared / folder)
    monkeypatch.setenv("SPIKECLIP_DATA", str(tmp_path))

    def load(source, split):
        return load_pictures(source, split, ImageFormat(16), cache=tmp_path / "cache", limit=40)

    assert load("cifar10", "test").fingerprint == load(str(shared / "cifar10"), "test").fingerprint
    tiny = load("tinyimagenet", "test")
    assert tiny.split == "val"
    assert tiny.classnames == json.loads((shared / "tinyimagenet32/names.json").read_text())
    assert load("flickr8k", "val").split == "validation"
    assert find_source("flickr8k").count("test") == 1091
