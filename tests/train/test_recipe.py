"""Recipes: what is read, and what is said about a mistake."""

from pathlib import Path

import pytest
import yaml

from spikeclip.errors import InputError
from spikeclip.train.recipe import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))
GOOD = """
model: {name: spikeclip-tiny, neuron: ilif}
data: {source: shapes}
teacher: {path: runs/teacher}
stages:
  - {stage: align_text, epochs: 3}
  - {stage: align_image, optimizer: {lr: 1e-3}}
"""


@pytest.fixture
def load(tmp_path):
    def load(text=GOOD, *overrides):
        (tmp_path / "r.yaml").write_text(text)
        return load_recipe(tmp_path / "r.yaml", list(overrides))

    return load


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_load(path):
    config = load_recipe(path)
    assert [stage.stage for stage in config.stages] == [
        s["stage"] for s in yaml.safe_load(path.read_text())["stages"]
    ]


def test_there_are_recipes():
    assert {"cifar10", "shapes"} <= {path.stem for path in RECIPES}


def test_overrides_go_down_tables_and_lists(load):
    config = load(
        GOOD,
        "seed=3",
        "stages.1.optimizer.lr=2e-3",
        "stages.0.loss.cosine=0.5",
        "model.image={widths: [8, 8]}",
        "data.limit=null",
        "teacher.path=a=b.npz",
    )
    assert (config.seed, config.data.limit, config.teacher.path) == (3, None, "a=b.npz")
    assert (config.stages[0].epochs, config.stages[0].loss.cosine) == (3, 0.5)
    assert (config.stages[1].optimizer.lr, config.stages[1].optimizer.schedule) == (0.002, "cosine")
    assert config.model.image == {"widths": [8, 8]}


def test_overrides_name_stages_by_kind_or_all_of_them_and_remove_them(load):
    config = load(GOOD, "stages.align_image.epochs=7", "stages.*.batch_size=64", "stages.align_text=null")
    assert [(s.stage, s.epochs, s.batch_size) for s in config.stages] == [("align_image", 7, 64)]
    twice = GOOD + "  - {stage: align_image}\n"
    assert [s.epochs for s in load(twice, "stages.align_image.epochs=7").stages] == [3, 7, 7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [", "not valid YAML"),
        ("- 1", "holds no settings"),
        ("", "holds no settings"),
        ("{data: {source: shapes}, stages: []}", "lists no stages"),
        ("{data: {source: shapes}}", "stages is missing: expected list of tables with stage"),
        ("stages: [{stage: finetune}]", "data is missing: expected table with source"),
        ("{data: {limit: 9}}", "data.source is missing: expected str or list of str"),
        (
            "stages: [{epochs: 1}]",
            "stages.0.stage is missing: expected one of align_text, align_image, finetune",
        ),
        ("stages: [align_image]", "stages.0: expected a table of settings, got 'align_image'"),
        ("stages: {stage: finetune}", "stages: expected list"),
        ("stages: [{stage: align_imgae}]", "did you mean 'align_image'?"),
        ("stages: [{stage: finetune, epoch: 1}]", "unknown key in stages.0 'epoch'; did you mean 'epochs'?"),
        ("stages: [{stage: finetune, epochs: two}]", "stages.0.epochs: expected int, got 'two'"),
        ("stages: [{stage: finetune, epochs: 1.5}]", "stages.0.epochs: expected int, got 1.5"),
        ("stages: [{stage: finetune, epochs: true}]", "stages.0.epochs: expected int, got True"),
        (
            "stages: [{stage: finetune, epochs: 0}]",
            "stages.0.epochs must be a whole number between 1 and 100,000, got 0",
        ),
        (
            "stages: [{stage: finetune, batch_size: 0}]",
            "stages.0.batch_size must be a whole number between 1 and 1,000,000, got 0",
        ),
        (
            "stages: [{stage: finetune, relu_first: 1.5}]",
            "stages.0.relu_first must be a number between 0 and 1, got 1.5",
        ),
        (
            "stages: [{stage: finetune, optimizer: {warmup: 500}}]",
            "stages.0.optimizer.warmup must be a number between 0 and 1, got 500",
        ),
        ("stages: [{stage: finetune, optimizer: 1}]", "stages.0.optimizer: expected a table"),
    ],
)
def test_mistakes_in_a_recipe(text, message, load):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        load(text)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "expected key=value, got 'seed'"),
        ("=1", "expected key=value"),
        ("sed=1", "'sed'; did you mean 'seed'"),
        ("seed=one", "seed: expected int, got 'one'"),
        ("stages.2.epochs=1", "'2' is not the number of an entry or the kind of a stage .there are 2"),
        ("stages.2={stage: finetune}", "'2' is not the number of an entry"),
        ("stages.last.epochs=1", "'last' is not the number of an entry"),
        ("stages.-1.epochs=1", "'-1' is not the number of an entry"),
        ("stages.0.epochs.x=1", "stages.0.epochs is a value, not a table"),
        ("stages.0.epochs.x.y=1", "'x' is not the number of an entry .*this is a value"),
        ("model.image={widths: [8", "model.image: .* is not valid YAML"),
        ("model.nuron=lif", "unknown key in model 'nuron'; did you mean 'neuron'"),
        ("model.name=spikeclip-tinny", "did you mean 'spikeclip-tiny'"),
        ("stages.finetune.epochs=1", "'finetune' is not the number of an entry or the kind of a stage"),
        ("stages.*=null", "lists no stages"),
        ("stages.*.share=0", "stages.0.share must be a number above 0 and at most 1, got 0"),
        ("data.val_fraction=0", "data.val_fraction must be a number above 0 and at most 0.5, got 0"),
        ("data.val_fraction=0.8", "data.val_fraction must be a number above 0 and at most 0.5, got 0.8"),
    ],
)
def test_mistakes_in_an_override(override, message, load):
    with pytest.raises(InputError, match=message):
        load(GOOD, override)


@pytest.mark.parametrize("neuron", ["lif", "plif"])
def test_lif_has_no_relu_phase(neuron, load):
    with pytest.raises(InputError, match=r"stages.1.relu_first works with neuron ilif or quant_relu"):
        load(GOOD, f"model.neuron={neuron}", "stages.1.relu_first=0.5")


def test_compile_and_the_rate_regulariser_exclude_each_other(load):
    assert load(GOOD, "compile=true").compile
    with pytest.raises(InputError, match=r"stages.1.loss.rate reads layers that compile hides"):
        load(GOOD, "compile=true", "stages.1.loss.rate=0.1")


def test_missing_recipe(tmp_path):
    with pytest.raises(
        InputError, match=r"no such recipe: .*none.yaml; `spikeclip train --list` names those built in"
    ):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a folder, not a file of YAML"):
        load_recipe(tmp_path)
