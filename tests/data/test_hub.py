import datasets
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import RepositoryNotFoundError
from small_sources import class_label, noise, png, write_parquet, write_tar

from spikeclip.data import load_prompts
from spikeclip.data.locate import find_source
from spikeclip.errors import InputError


def raising(error):
    def call(*_args, **_options):
        raise error

    return call


def test_the_hub_out_of_reach_is_one_clear_error(load, monkeypatch):
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", raising(ConnectionError("no route")))
    with pytest.raises(
        InputError, match=r"'no/where' is neither a folder .* could not be reached: give a folder instead"
    ):
        load("no/where")


def test_the_hub_client_is_online_again_after_a_failure(load, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    seen = []

    def look(*_args):
        seen.append(huggingface_hub.constants.HF_HUB_OFFLINE)
        raise FileNotFoundError

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", raising(OSError()))
    monkeypatch.setattr(datasets, "load_dataset", look)
    with pytest.raises(InputError):
        load("no/where")
    assert seen == [True]
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False


def test_a_name_the_hub_does_not_have(load, monkeypatch):
    error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", raising(error))
    with pytest.raises(InputError, match=r"'no/where' is neither .* has no data set of this name$"):
        load("no/where")


def test_hub_data_sets_take_the_same_path(load, monkeypatch):
    features = datasets.Features(
        {
            "img": datasets.Image(),
            "fine_label": datasets.ClassLabel(names=["x", "y"]),
            "coarse_label": datasets.Value("int64"),
        }
    )
    rows = {
        "img": [{"bytes": png(noise(i)) if i else b"broken", "path": None} for i in range(3)],
        "fine_label": [0, 1, 1],
        "coarse_label": [5, 6, 7],
    }
    content = datasets.DatasetDict({"validation": datasets.Dataset.from_dict(rows, features)})
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_args, **_options: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: content if name == "us/set" else None)
    pictures = load("us/set", "val")
    assert pictures.labels.tolist() == [1, 1]
    assert pictures.classnames == ["x", "y"]
    assert pictures.ids == ["validation/1", "validation/2"]
    assert list(pictures.skipped) == ["validation/0"]
    assert np.array_equal(pictures.images, np.stack([noise(1), noise(2)]))
    with pytest.raises(InputError, match=r"us/set on the hub has no split 'train'; found: validation"):
        load("us/set")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder in which repositories of the hub lie as owner/name; `datasets` itself reads them."""
    real = datasets.load_dataset

    def load(name, **options):
        folder = tmp_path / "hub" / name
        return real(
            str(folder if folder.is_dir() else name), **{"cache_dir": str(tmp_path / "arrow"), **options}
        )

    monkeypatch.delenv("SPIKECLIP_DATA", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_args, **_options: None)
    monkeypatch.setattr(datasets, "load_dataset", load)
    return tmp_path / "hub"


def test_a_known_set_on_the_hub(hub, load):
    names = load_prompts("tinyimagenet").ids
    for split, label in (("train", 0), ("valid", 199)):
        path = hub / f"zh-plus/tiny-imagenet/data/{split}-00000-of-00001-70d52db3c749a935.parquet"
        write_parquet(path, [png(noise(label))], {"label": [label]}, class_label(*names))
    pictures = load("tinyimagenet", "test")
    assert (pictures.name, pictures.split) == ("tinyimagenet", "valid")
    assert pictures.classnames[pictures.labels[0]] == "acorn"
    assert np.array_equal(pictures.images[0], noise(199))
    assert find_source("tinyimagenet").count("train") == 1


def test_of_a_large_set_only_the_split_asked_for_is_fetched(hub, load):
    folder = hub / "umaru97/flickr30k_train_val_test"
    features = {"caption": {"feature": {"_type": "Value", "dtype": "string"}, "_type": "List"}}
    write_parquet(
        folder / "data/test-00000-of-00001-f4c5.parquet", [png(noise(1))], {"caption": [["a", "b"]]}, features
    )
    (folder / "data/train-00000-of-00009-f4c5.parquet").write_bytes(b"would be gigabytes")
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: 29000\n"
        "  - name: test\n    num_examples: 1000\n---\n"
    )
    pictures = load("flickr30k", "test")
    assert pictures.captions == [["a", "b"]]
    source = find_source("flickr30k")
    assert (source.validation("train", "test"), source.count("train")) == ("val", None)
    with pytest.raises(InputError, match=r"flickr30k is 'umaru97/.*' on .* hub, which could not deliver it"):
        load("flickr30k", "train")


def test_shards_on_the_hub(hub, load):
    files = {"1.jpg": png(noise(1)), "1.txt": "one\ntwo", "2.jpg": b"damaged", "2.txt": "three"}
    write_tar(hub / "clip-benchmark/wds_mscoco_captions/test/0.tar", files)
    pictures = load("coco", "test")
    assert pictures.captions == [["one", "two"]]
    assert np.array_equal(pictures.images, noise(1)[None])
    assert list(pictures.skipped) == ["2.jpg"]
