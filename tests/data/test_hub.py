import datasets
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import RepositoryNotFoundError
from small_sources import noise, png

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
    with pytest.raises(InputError, match=r"'no/where' is neither .* has no data set of that name$"):
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
    assert pictures.skipped == ["validation/0"]
    assert np.array_equal(pictures.images, np.stack([noise(1), noise(2)]))
    with pytest.raises(InputError, match=r"us/set has no split 'train'; found: validation"):
        load("us/set")
