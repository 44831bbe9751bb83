import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import spikeclip
from spikeclip.config import to_dict
from spikeclip.data.prompts import load_prompts, prompts_hash, with_classnames
from spikeclip.encode.embed import embed_pictures, zero_shot_classifier
from spikeclip.errors import InputError
from spikeclip.evaluate import evaluate_model, zero_shot_metrics
from spikeclip.model import weights_hash
from spikeclip.records import write_record


def test_classification_record(model, encoder, pictures, tmp_path):
    templates = ["a {c}", "the {c}."]
    record = evaluate_model(encoder, pictures, templates=templates, seed=3, pretrained="runs/x")
    classes = zero_shot_classifier(encoder, pictures.classnames, templates)
    assert record["metrics"] == zero_shot_metrics(embed_pictures(encoder, pictures), pictures.labels, classes)
    assert [record[key] for key in ("dataset", "model", "pretrained", "task", "language")] == [
        "shapes",
        "spikeclip-tiny",
        "runs/x",
        "zeroshot_classification",
        "en",
    ]
    source = record["provenance"]
    assert source["seed"] == 3
    assert source["config"] == to_dict(model.config)
    assert source["data"]["fingerprint"] == pictures.fingerprint
    assert source["prompts"]["hash"] == prompts_hash(pictures.classnames, templates)
    assert source["versions"]["spikeclip"] == spikeclip.__version__
    assert "amx" in source["machine"]
    assert source["energy_convention"] is None
    write_record(record, tmp_path / "new" / "results.json")
    assert json.loads((tmp_path / "new" / "results.json").read_text())["metrics"] == record["metrics"]
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["results.json"]


def test_retrieval_record(encoder, pictures):
    record = evaluate_model(encoder, pictures, task="zeroshot_retrieval")
    assert set(record["metrics"]) >= {"image_retrieval_recall@1", "text_retrieval_recall@10"}
    assert record["provenance"]["prompts"] is None
    assert record["spikes"]["mean_rate"] >= 0


def test_what_is_not_a_number_becomes_null(tmp_path):
    value = {"acc5": math.nan, "rates": [1.0, -math.inf, np.float32("nan")], "n": np.int64(3), 5: tmp_path}
    write_record(value, tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read == {"acc5": None, "rates": [1.0, None, None], "n": 3, "5": str(tmp_path)}


def test_a_failed_write_leaves_the_old_record(tmp_path):
    file = tmp_path / "r.json"
    write_record({"acc1": 0.5}, file)
    with pytest.raises(TypeError):
        write_record({"acc1": object()}, file)
    assert json.loads(file.read_text()) == {"acc1": 0.5}
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_is_no_place_for_a_record(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        write_record({}, tmp_path)


def test_a_split_without_what_the_task_needs(encoder, pictures):
    with pytest.raises(InputError, match="no labels: use task zeroshot_retrieval"):
        evaluate_model(encoder, dataclasses.replace(pictures, labels=None))
    with pytest.raises(InputError, match="no captions"):
        evaluate_model(encoder, dataclasses.replace(pictures, captions=None), task="zeroshot_retrieval")
    with pytest.raises(InputError, match="did you mean 'zeroshot_retrieval'"):
        evaluate_model(encoder, pictures, task="zeroshot_retreival")


def test_a_model_that_is_not_a_number(model, encoder, pictures):
    torch.nn.init.constant_(next(model.image.readout.parameters()), math.nan)
    with pytest.raises(InputError, match="60 of 60 embeddings of pictures are not numbers"):
        evaluate_model(encoder, pictures)


def test_weights_hash_sees_every_weight(model):
    before = weights_hash(model)
    assert weights_hash(model) == before
    with torch.no_grad():
        model.log_scale += 1e-3
    assert weights_hash(model) != before


def test_prompts_in_another_order_are_refused(pictures):
    names = load_prompts("shapes").classnames
    assert with_classnames(pictures, "shapes").classnames == pictures.classnames == names
    swapped = dataclasses.replace(pictures, classnames=[names[1], names[0], *names[2:]])
    with pytest.raises(
        InputError, match="another order: label 0 is 'red square' in the data and 'red circle'"
    ):
        with_classnames(swapped, "shapes")
    with pytest.raises(InputError, match="have 10 classes, shapes has 64"):
        with_classnames(pictures, "cifar10")
