"""Every task through `evaluate_tasks`, on a model that has learned nothing."""

import dataclasses
import json

import numpy as np
import pytest

from spikeclip.errors import InputError
from spikeclip.evaluate import TaskSettings, evaluate_model, evaluate_tasks, probe, record
from spikeclip.evaluate.corruption import CORRUPTIONS
from spikeclip.evaluate.tasks import TASKS

NAMES = ["red circle", "blue bar", "white star"]
NEAR = {"red circle": ["crimson disc"], "blue bar": ["azure rod", "navy stick"]}


@pytest.fixture(scope="module")
def few(pictures):
    """60 pictures of three classes."""
    return dataclasses.replace(pictures, labels=np.arange(60) % 3, classnames=NAMES)


@pytest.fixture(scope="module")
def training(few):
    """The same pictures again, 48 to learn from and 12 to select by."""
    train = dataclasses.replace(few, split="train", fingerprint="train")
    return train.subset(np.arange(48)), train.subset(np.arange(48, 60))


@pytest.mark.parametrize(
    ("task", "curves", "metric"),
    [
        ("few_shot", {"accuracy": [0, 1, 2, 4, 8, 16]}, "acc1_0_shot"),
        ("expanded_labels", {"accuracy": [0, 1, 2, 4, 5]}, "acc1"),
        ("unseen_labels", {"all pictures": [0, 1, 2], "pictures of replaced classes": [1, 2]}, "acc1"),
        ("corruption", {kind: [0, 1, 2, 3, 4, 5] for kind in CORRUPTIONS}, "acc1"),
    ],
)
def test_curves_start_at_zero_shot_accuracy(task, curves, metric, encoder, few, training, monkeypatch):
    monkeypatch.setattr(probe, "STRENGTHS", (1.0,))
    settings = TaskSettings(training=training, seeds=2, distractors=list("abcde"), near=NEAR)
    zero_shot, made = evaluate_tasks(encoder, few, [task, "zeroshot_classification"], settings)
    assert {name: [p["x"] for p in points] for name, points in made["curves"].items()} == curves
    assert made["metrics"][metric] == zero_shot["metrics"]["acc1"]
    assert next(iter(made["curves"].values()))[0]["values"] == [zero_shot["metrics"]["acc1"]]
    assert made["spikes"] == evaluate_model(encoder, few)["spikes"]  # of the pictures as they are, seen once
    assert all(0 <= value <= 1 for value in made["metrics"].values())
    assert (zero_shot["provenance"]["seeds"], made["provenance"]["seeds"]) == (None, 2)


def test_a_split_is_embedded_once_for_all_tasks(encoder, few, training, monkeypatch):
    monkeypatch.setattr(probe, "STRENGTHS", (1.0,))
    embedded = []

    def embed_pictures(encoder, part, *rest):
        embedded.append(getattr(part, "fingerprint", "copy"))
        return embed(encoder, part, *rest)

    embed = record.embed_pictures
    monkeypatch.setattr(record, "embed_pictures", embed_pictures)
    tasks = [task for task in TASKS if task != "corruption"]
    settings = TaskSettings(training=training, seeds=1, near=NEAR, withheld=NAMES[:1])
    records = evaluate_tasks(encoder, few, tasks, settings)
    assert [made["task"] for made in records] == tasks
    assert len(set(embedded)) == len(embedded)
    assert embedded.count(few.fingerprint) == 1


def test_the_names_of_a_label_set_are_in_the_record(encoder, few):
    def prompts(task, **settings):
        return evaluate_tasks(encoder, few, [task], TaskSettings(**settings))[0]["provenance"]["prompts"]

    expanded = prompts("expanded_labels", distractors=["lamp", "red lamp"])
    assert (expanded["classnames"], expanded["distractors"]) == (NAMES, ["lamp"])
    assert prompts("unseen_labels", near=NEAR)["near"] == NEAR
    assert prompts("open_vocabulary", withheld=["white_star"])["withheld"] == ["white star"]


def test_withheld_classes_are_those_of_the_recipe(encoder, few, tmp_path):
    recipe = {"data": {"source": few.name, "train_split": "train", "withhold": NAMES[1:2]}, "model": {}}
    (tmp_path / "recipe.json").write_text(json.dumps({**recipe, "stages": [{"stage": "finetune"}]}))
    (made,) = evaluate_tasks(encoder, few, ["open_vocabulary"], pretrained=str(tmp_path))
    assert made["provenance"]["prompts"]["withheld"] == NAMES[1:2]
    assert made["provenance"]["protocol"] == "fine-tuned (classes withheld: 1)"
    with pytest.raises(InputError, match="no classes were withheld"):
        evaluate_model(encoder, few, task="open_vocabulary")
    with pytest.raises(InputError, match="did you mean 'blue bar'"):
        evaluate_tasks(encoder, few, ["open_vocabulary"], TaskSettings(withheld=["blue car"]))


def test_a_linear_probe_reads_labels_and_no_names(encoder, few, training):
    (made,) = evaluate_tasks(encoder, few, ["linear_probe"], TaskSettings(training=training))
    assert {"acc1", "acc5", "mean_per_class_recall"} == made["metrics"].keys()
    assert made["provenance"]["prompts"] is None
    assert [part["pictures"] for part in made["provenance"]["training_data"]] == [48, 12]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_what_a_task_needs(task, encoder, few, training):
    lacking = dataclasses.replace(few, labels=None, captions=None)
    with pytest.raises(InputError, match="has no"):
        evaluate_tasks(encoder, lacking, [task], TaskSettings(training=training))
    if task in ("linear_probe", "few_shot"):
        with pytest.raises(InputError, match="give it a training split"):
            evaluate_model(encoder, few, task=task)
        other = dataclasses.replace(training[0], classnames=NAMES[::-1])
        with pytest.raises(InputError, match="have different classes"):
            evaluate_tasks(encoder, few, [task], TaskSettings(training=(other, other)))
        tested = dataclasses.replace(few, split="train")
        with pytest.raises(
            InputError, match=f"{task} would learn from the pictures .* tested on, shapes train"
        ):
            evaluate_tasks(encoder, tested, ["corruption", task], TaskSettings(training=training))
