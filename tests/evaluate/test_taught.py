"""What a model was taught with is what it is asked with, in PyTorch and on the engine, unless one says otherwise."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import spikeclip
from spikeclip.config import ImageFormat, Taught
from spikeclip.data import load_pictures
from spikeclip.encode.embed import zero_shot_classifier
from spikeclip.encode.student import Student
from spikeclip.energy.model import EnergySettings, account_for
from spikeclip.errors import InputError
from spikeclip.evaluate.compare import compare_records
from spikeclip.evaluate.models import Evaluation, evaluate_models
from spikeclip.evaluate.tasks import TaskSettings
from spikeclip.graph.saved import save_graphs
from spikeclip.open import open_encoder, taught_with

PROMPTS = ["a {c}", "the {c}"]
TAUGHT = Taught(PROMPTS, {"red star": "crimson star", "no such class": "x"}, ["shapes"])

OTHER = Taught(PROMPTS, {"blue ring": "azure ring"}, ["shapes"])


@pytest.fixture(scope="module")
def models(tmp_path_factory, make_model) -> Path:
    """A model that was taught, its graphs alone, one taught other names, one nothing, and one without a tokenizer."""
    root = tmp_path_factory.mktemp("taught")
    model = make_model()
    for name, taught in {"plain": Taught(), "other": OTHER, "taught": TAUGHT}.items():
        model.taught = taught
        model.save_pretrained(root / name)
    save_graphs(model, root / "taught")
    (root / "graphs").mkdir()
    shutil.copytree(root / "taught" / "graph", root / "graphs" / "graph")
    shutil.copy(root / "taught" / "tokenizer.json", root / "graphs")
    shutil.copytree(root / "taught", root / "wordless")
    (root / "wordless" / "tokenizer.json").unlink()
    return root


def evaluated(models: Path, *names: str, **changes) -> list[dict]:
    paths = [str(models / name) for name in names]
    return evaluate_models(
        Evaluation(paths, ["shapes"], limit=64, cache=str(models / "cache"), **changes), progress=False
    )


def asked(record: dict) -> tuple[list[str], bool, bool | None]:
    source = record["provenance"]
    differs = source["taught"] and source["taught"]["differs"]
    return source["prompts"]["templates"], "crimson star" in source["prompts"]["classnames"], differs


@pytest.mark.parametrize(("name", "engine"), [("taught", None), ("taught", "int8"), ("graphs", None)])
def test_a_model_is_asked_as_it_was_taught(models, name, engine):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (record,) = evaluated(models, name, engine=engine)
    assert asked(record) == (PROMPTS, True, False)
    assert record["provenance"]["taught"]["renames"] == TAUGHT.renames
    assert taught_with(models / name) == TAUGHT


def test_a_model_that_was_taught_with_nothing_has_the_usual_prompt(models):
    (record,) = evaluated(models, "plain")
    assert asked(record) == (["a photo of a {c}."], False, None)
    assert taught_with("table.npz") == Taught()


def test_other_prompts_are_told(models):
    settings = TaskSettings(templates=["my {c}"])
    told = "taught was taught with the prompts 'a {c}', 'the {c}', 'crimson star' for .*with 'my {c}', 'rosy star'"
    with pytest.warns(UserWarning, match=told):
        (record,) = evaluated(models, "taught", settings=settings, rename={"red star": "rosy star"})
    assert asked(record) == (["my {c}"], False, True)
    assert "rosy star" in record["provenance"]["prompts"]["classnames"]


def test_each_of_several_models_is_asked_as_it_was_taught(models):
    alone = [evaluated(models, name)[0] for name in ("plain", "taught", "other")]
    with pytest.warns(UserWarning, match="each as it was taught: --template and --rename") as told:
        together = evaluated(models, "plain", "taught", "other")
    assert [record["metrics"] for record in together] == [record["metrics"] for record in alone]
    assert [asked(record) for record in together] == [
        (["a photo of a {c}."], False, None),
        (PROMPTS, True, False),
        (PROMPTS, False, False),
    ]
    renames = [record["provenance"]["prompts"]["renames"] for record in together]
    assert renames == [{}, {"red star": "crimson star"}, {"blue ring": "azure ring"}]
    assert len(told) == 2  # of the second and the third model
    assert "taught was asked with 'a {c}', 'the {c}', 'crimson star', and" in str(told[0].message)
    assert "plain with 'a photo of a {c}.', 'red star', each" in str(told[0].message)
    assert [row["same_words"] for row in compare_records(together)] == [False] * 3


def test_words_that_are_given_are_those_of_all_models(models):
    settings = TaskSettings(templates=PROMPTS)
    with pytest.warns(UserWarning, match="was taught with") as told:
        taught, other = evaluated(
            models, "taught", "other", settings=settings, rename={"blue ring": "azure ring"}
        )
    (message,) = (str(warning.message) for warning in told)
    assert message.endswith("was taught with 'crimson star' for 'red star', and is asked with 'red star'")
    assert (asked(taught), asked(other)) == ((PROMPTS, False, True), (PROMPTS, False, False))
    assert all(row["same_words"] for row in compare_records([taught, other]))


def test_single_pictures_are_asked_as_the_model_was_taught(models):
    encoder = open_encoder(models / "taught")
    picture, labels = Image.new("RGB", (32, 32), "red"), ["red star", "blue ring"]
    assert spikeclip.classify(encoder, [picture], labels) == spikeclip.classify(
        encoder, [picture], labels, PROMPTS
    )
    other = spikeclip.classify(encoder, [picture], labels, ["a photo of a {c}."])
    assert spikeclip.classify(encoder, [picture], labels) != other


def test_energy_asks_as_evaluation_does(models, tmp_path):
    settings = EnergySettings(str(models / "taught"), "shapes", limit=64, cache=str(models / "cache"))
    (record,) = evaluated(models, "taught")
    assert account_for(settings, tmp_path)["metrics"]["acc1"] == record["metrics"]["acc1"]


@pytest.mark.parametrize("engine", [None, "fp32"])
def test_a_model_without_a_tokenizer_says_what_it_lacks(models, engine, tmp_path):
    with pytest.raises(
        InputError, match=r"has no tokenizer, so it reads no texts or class names: put the tokenizer"
    ):
        evaluated(models, "wordless", engine=engine)
    with pytest.raises(InputError, match="has no tokenizer"):
        account_for(EnergySettings(str(models / "wordless"), "shapes"), tmp_path)
    pictures = np.asarray(load_pictures("shapes", "test", ImageFormat(32), limit=2).images)
    assert open_encoder(models / "wordless", engine).encode_image(pictures).shape == (2, 16)


def test_the_words_of_a_training_without_a_teacher_are_all_that_is_known(make_model):
    cats = Taught(classnames=["red cat"], stages=["contrastive, 1 epochs"])
    dogs = Taught(classnames=["blue dog"])
    assert dogs.after(Taught()).classnames == ["blue dog"]
    assert dogs.after(cats).classnames == ["red cat", "blue dog"]
    assert (
        dogs.after(Taught(stages=["align_text, 1 epochs"])).classnames == []
    )  # it knows a teacher's words too
    model = make_model()
    model.taught = dogs.after(cats)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zero_shot_classifier(Student(model), ["Red_dog", "blue cat"], ["a {c}"])
    with pytest.warns(
        UserWarning, match=r"of its 2 class names \(red cat, blue dog\), .* of 'red bird' is a guess"
    ):
        zero_shot_classifier(Student(model), ["red dog", "red bird"], ["a {c}"])
