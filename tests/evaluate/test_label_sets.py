"""Curves over candidate names against plain zero-shot accuracy on the same names."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spikeclip.data.prompts import load_prompts
from spikeclip.errors import InputError
from spikeclip.evaluate import zero_shot_metrics
from spikeclip.evaluate.label_sets import (
    distractors_of,
    expanded_labels,
    load_distractors,
    load_near_names,
    near_names_of,
    open_vocabulary,
    unseen_labels,
)


def drawn(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


CLASSES, DISTRACTORS = drawn(6, 8, seed=1), drawn(11, 8, seed=2)
LABELS = torch.arange(300) % 6
IMAGES = F.normalize(CLASSES[LABELS] + 0.25 * torch.randn(300, 8, generator=torch.Generator().manual_seed(3)))


def accuracy(classes):
    return zero_shot_metrics(IMAGES, LABELS, classes)["acc1"]


def test_expanded_labels():
    points = expanded_labels(IMAGES, LABELS, CLASSES, DISTRACTORS, seeds=4)
    assert [p["x"] for p in points] == [0, 1, 2, 4, 8, 11]
    assert points[0]["values"] == [accuracy(CLASSES)]
    assert points[-1]["values"] == [pytest.approx(accuracy(torch.cat([CLASSES, DISTRACTORS])))]
    assert points[-1]["mean"] < points[0]["mean"] - 0.05
    alone = {round(accuracy(torch.cat([CLASSES, name[None]])), 9) for name in DISTRACTORS}
    assert {round(value, 9) for value in points[1]["values"]} <= alone
    by_seed = np.array([p["values"] for p in points[1:-1]])
    assert by_seed.shape == (4, 4)
    assert (np.diff(by_seed, axis=0) <= 0).all()
    assert points[2]["interval"] > 0


def test_a_picture_of_a_replaced_class_is_right_when_the_replacement_wins():
    near = {0: ["a"], 2: ["b"], 5: ["c"]}
    embeddings = {"a": CLASSES[0], "b": -CLASSES[2], "c": DISTRACTORS[0]}
    everywhere, inside = unseen_labels(IMAGES, LABELS, CLASSES, near, embeddings, seeds=3)
    replaced = CLASSES.clone()
    replaced[2], replaced[5] = -CLASSES[2], DISTRACTORS[0]
    assert [p["x"] for p in everywhere] == [0, 1, 2, 3]
    assert everywhere[0]["values"] == [accuracy(CLASSES)]
    assert everywhere[3]["values"] == [pytest.approx(accuracy(replaced))] * 3
    right = (IMAGES @ replaced.T).argmax(1) == LABELS
    of_three = torch.isin(LABELS, torch.tensor([0, 2, 5]))
    assert inside[-1]["values"] == [pytest.approx(right[of_three].double().mean().item())] * 3
    assert [p["x"] for p in inside] == [1, 2, 3]


def test_no_name_stands_for_two_classes():
    near = {0: ["a", "b"], 1: ["b"], 2: ["a", "b"]}
    everywhere, _ = unseen_labels(IMAGES, LABELS, CLASSES, near, {"a": CLASSES[0], "b": CLASSES[1]}, seeds=8)
    assert everywhere[-1]["x"] == 2  # two names are enough for two of the three


def test_names_that_would_be_unfair_are_left_out():
    assert distractors_of(["dog", "sports_car"], ["hot dog", "Car", "lamp", "lamp", "tea_pot"]) == [
        "lamp",
        "tea pot",
    ]
    assert near_names_of(["Horse", "zebra", "lamp"], {"horse": ["zebra", "pony"], "zebra": ["horse"]}) == {
        0: ["pony"]
    }
    with pytest.raises(InputError, match="each of the 2 distractors shares a word"):
        distractors_of(["dog"], ["dog", "hot dog"])
    with pytest.raises(InputError, match="no near names for lamp"):
        near_names_of(["lamp"], {"horse": ["zebra"]})


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_shipped_names_fit_the_data_sets(name):
    classes = load_prompts(name).classnames
    assert len(distractors_of(classes, load_distractors())) > 200
    assert len(near_names_of(classes, load_near_names())) == len(classes)


def test_names_of_a_user(tmp_path):
    (tmp_path / "names.txt").write_text("lamp\n\n tea pot \n")
    assert load_distractors(str(tmp_path / "names.txt")) == ["lamp", "tea pot"]
    assert load_distractors("cifar10")[0] == "airplane"
    (tmp_path / "near.json").write_text(json.dumps({"horse": ["zebra"]}))
    assert load_near_names(tmp_path / "near.json") == {"horse": ["zebra"]}
    (tmp_path / "near.json").write_text(json.dumps({"horse": "zebra"}))
    with pytest.raises(InputError, match="expected lists of names by class"):
        load_near_names(tmp_path / "near.json")
    with pytest.raises(InputError, match="no such file"):
        load_distractors(str(tmp_path / "none.txt"))


def test_withheld_classes_among_all_names_and_among_their_own():
    images = F.normalize(IMAGES + drawn(300, 8, seed=4), dim=-1)
    metrics = open_vocabulary(images, LABELS, CLASSES, withheld=[5, 0])
    guess, own = (images @ CLASSES.T).argmax(1), torch.tensor([0, 5])
    new = torch.isin(LABELS, own)
    seen, unseen = ((guess == LABELS)[kind].double().mean().item() for kind in (~new, new))
    among = own[(images[new] @ CLASSES[own].T).argmax(1)] == LABELS[new]
    assert 0 < unseen < among.double().mean() < 1
    assert metrics == {
        "acc1_seen": seen,
        "acc1_withheld": unseen,
        "harmonic_mean": pytest.approx(2 / (1 / seen + 1 / unseen)),
        "acc1_withheld_names": among.double().mean().item(),
    }
    with pytest.raises(InputError, match="needs pictures of withheld classes and of others"):
        open_vocabulary(IMAGES[new], LABELS[new], CLASSES, withheld=[0, 5])
