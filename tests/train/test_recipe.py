"""Recipes: what is read, and what is said about a mistake."""

import math
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from spikeclip.config import DataConfig, OptimizerConfig, RunConfig, StageConfig
from spikeclip.errors import InputError
from spikeclip.train.precision import resolve_compile
from spikeclip.train.recipe import BUILT_IN, built_in_recipes, find_recipe, load_recipe
from spikeclip.train.recipe_checks import check_files, check_run

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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.1.optimizer.lr=.nan", "stages.1.optimizer.lr must be a number above 0 .* got nan"),
        ("stages.1.optimizer.lr=-1e-3", "stages.1.optimizer.lr must be a number above 0 .* got -0.001"),
        ("stages.0.optimizer.momentum=2", "stages.0.optimizer.momentum must be .* below 1, got 2"),
        ("stages.0.optimizer.weight_decay=-100", "stages.0.optimizer.weight_decay must be .* got -100"),
        ("stages.0.optimizer.clip_norm=0", "stages.0.optimizer.clip_norm must be a number above 0, got 0"),
        ("stages.0.loss.temperature=0", "stages.0.loss.temperature must be a number above 0 .* got 0"),
        ("stages.0.loss.label_smoothing=1", "stages.0.loss.label_smoothing must be .* below 1, got 1"),
        ("stages.0.loss.kl=-1", "stages.0.loss.kl must be a number between 0 and 1,000, got -1"),
        ("stages.0.target.text=-1", "stages.0.target.text must be a number between 0 and 1,000, got -1"),
        ("stages.0.logit_scale=0", "stages.0.logit_scale must be a number above 0 .* got 0"),
        ("stages.0.epochs=1000000000", "stages.0.epochs must be a whole number between 1 and 100,000"),
        ("teacher.logit_scale=.inf", "teacher.logit_scale must be a number above 0 .* got inf"),
        ("seed=-1", "seed must be a whole number between 0 and 4,294,967,295, got -1"),
        ("seed=4294967296", "seed must be a whole number between 0 and 4,294,967,295, got 4294967296"),
        ("checkpoint_minutes=.nan", "checkpoint_minutes must be a number between 0 and 10,080, got nan"),
        ("data.limit=0", "data.limit must be a whole number between 1 and 1,000,000,000, got 0"),
        ("data.source=", "data.source: expected str, got None"),
        ("data.source=' '", "data.source is empty"),
        ("data.source=[]", "data.source is empty: give a known name, a folder or a list"),
        ("data.source=[shapes, '']", "data.source.1 is empty"),
        ("data.classnames={a: ''}", "data.classnames.a is empty"),
        ("tokenizer=''", "tokenizer is empty"),
        ("model={pretrained: ''}", "model.pretrained is empty"),
        ("model.name=vit", "unknown value of model.name 'vit'; known: spikeclip-base"),
        ("data.source=[1]", "data.source.0: expected str, got 1; write it in quotes"),
        ("data.classnames={0: zero}", "data.classnames: expected str, got 0; write it in quotes"),
        ("data.classnames={'0': 1}", "data.classnames.0: expected str, got 1; write it in quotes"),
        ("data.withhold=[3]", "data.withhold.0: expected str, got 3; write it in quotes"),
        ("data.test_split=train", "data.test_split is 'train' as data.train_split"),
        ("data.templates=[]", "data.templates is empty"),
        ("data.templates=[a photo]", "data.templates.0 is 'a photo', without {c}"),
        ("teacher.path=null", "stages.0: stage align_text needs a teacher: set teacher.path"),
        ("teacher.path=[]", "stages.0: stage align_text needs a teacher: set teacher.path"),
        (
            "teacher.path=[a.npz, b]",
            "several teachers in one are .npz tables and at most one image network, got 'b'",
        ),
        (
            "teacher.readout=r.npz",
            "teacher.readout is of an image network's features: name one in teacher.path",
        ),
        (
            "stages.0={stage: align_text, fixed_statistics: true, recompute_statistics: true}",
            "stages.0: fixed_statistics and recompute_statistics exclude each other",
        ),
        ("stages.0.loss={cosine: 0}", "stages.0.loss: stage align_text has nothing to learn; one of cosine"),
        (
            "stages.1.augment.crop=32",
            "stages.1.augment: crop must be below .* side of 32 pixels, got 32 and 0",
        ),
        ("stages.1.augment.cutout=33", "stages.1.augment: .* side of 32 pixels, got 2 and 33"),
        ("model.image={std: [0, 1, 1], width: 3}", "unknown key in model.image 'width'"),
        ("model={neuron: relu, T: 4}", "model: neuron=relu has no time"),
        ("vocab_size=9", "vocab_size must be a whole number between 259 and 1,000,000, got 9"),
    ],
)
def test_what_cannot_work_is_named_with_its_key_value_and_range(override, message, load):
    with pytest.raises(InputError, match=message):
        load(GOOD, override)


def test_a_stage_of_labels_is_refused_where_all_sources_are_known_to_have_none(load):
    with pytest.raises(
        InputError, match=r"stages.0: stage finetune needs labels, and flickr8k and coco have captions only"
    ):
        load(GOOD, "stages=[{stage: finetune}]", "data.source=[flickr8k, coco]")
    with pytest.raises(
        InputError, match=r"stages.1.loss.prototype needs labels, and flickr8k has captions only"
    ):
        load(GOOD, "stages.1.loss.prototype=1", "data.source=flickr8k")
    assert load(GOOD, "stages=[{stage: finetune}]", "data.source=[flickr8k, cifar10]").stages
    assert load(GOOD, "data.source=flickr8k").stages


def test_an_encoder_needs_the_tables_that_it_adds_to(load):
    alone = ["stages=[{stage: contrastive}]", "teacher={encoder: minilm}"]
    with pytest.raises(
        InputError, match=r"teacher.encoder adds texts to the tables of teacher.path: set that too"
    ):
        load(GOOD, *alone)


def test_a_run_that_is_built_in_python_is_checked_with_its_keys():
    stage = StageConfig("contrastive", optimizer=OptimizerConfig(lr=math.nan))
    config = RunConfig(data=DataConfig("shapes"), stages=[StageConfig("contrastive"), stage])
    with pytest.raises(
        InputError, match=r"^stages.1.optimizer.lr must be a number above 0 and at most 1,000, got nan$"
    ):
        check_run(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["data.source=../nowhere"],
            "data.source: ../nowhere does not exist, looked for from {here}; set data.source=",
        ),
        (
            ["data.source=[shapes, /no/where]"],
            "data.source: /no/where does not exist; set data.source=FOLDER",
        ),
        (
            ["data.texts=words.txt"],
            "data.texts: words.txt does not exist, looked for from {here}; set data.texts=FILE",
        ),
        (
            ["teacher.path=a.npz"],
            "teacher.path: a.npz does not exist, looked for from {here}; set teacher.path=TABLE",
        ),
        (["teacher.encoder=./minilm"], "teacher.encoder: ./minilm does not exist"),
        (
            ["teacher={path: efficientnet-lite0, readout: r.npz}"],
            "teacher.readout: r.npz does not exist, looked for from {here}; set teacher.readout=the .npz file",
        ),
        (["model={pretrained: runs/a/model}"], "model.pretrained: runs/a/model does not exist"),
        (
            ["tokenizer=own.json"],
            "tokenizer: own.json does not exist, looked for from {here}; set tokenizer=auto",
        ),
    ],
)
def test_a_path_where_nothing_is_names_its_key_and_what_to_set(changes, message, load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        check_files(load(GOOD, *changes))
    assert message.format(here=tmp_path) in str(error.value)
    check_files(load(GOOD))  # names of the hub are not looked for


def test_a_recipe_is_found_by_its_name_wherever_one_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert built_in_recipes().keys() == {path.stem for path in RECIPES}
    assert all(built_in_recipes().values())
    assert load_recipe("shapes").data.source == load_recipe(" shapes.yaml").data.source == "shapes"
    (tmp_path / "shapes.yaml").write_text(GOOD.replace("shapes", "./mine"))
    assert load_recipe("shapes.yaml").data.source == "./mine"
    assert load_recipe("shapes").data.source == "shapes"
    with pytest.raises(InputError, match="no such recipe: shape; did you mean 'shapes', which is built in"):
        load_recipe("shape")
    with pytest.raises(InputError, match=r"no such recipe: recipes/cifar10.yaml; did you mean 'cifar10'"):
        load_recipe("recipes/cifar10.yaml")


@pytest.mark.parametrize("neuron", ["lif", "plif"])
def test_lif_has_no_relu_phase(neuron, load):
    with pytest.raises(InputError, match=r"stages.1.relu_first works with neuron ilif or quant_relu"):
        load(GOOD, f"model.neuron={neuron}", "stages.1.relu_first=0.5")


def test_what_a_gpu_needs_is_chosen_by_itself(load):
    made = load(GOOD, "stages.1.loss.rate=0.1")
    assert (made.compile, made.recompute) == ("auto", "auto")
    assert not resolve_compile(made.compile, "cpu")
    assert resolve_compile(made.compile, "cuda") == (find_spec("triton") is not None)
    made = load(GOOD, "compile=true", "stages.1.loss.rate=0.1", "recompute=false")
    assert (made.compile, made.recompute) == (True, False)
    assert resolve_compile(made.compile, "cpu")
    for key in ("compile", "recompute"):
        with pytest.raises(InputError, match=f"{key}: expected auto or bool, got 'yes'"):
            load(GOOD, f"{key}='yes'")


def test_missing_recipe(tmp_path):
    with pytest.raises(
        InputError, match=r"no such recipe: .*none.yaml; `spikeclip train --list` names those built in"
    ):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a folder, not a file of YAML"):
        load_recipe(tmp_path)


def test_a_folder_of_pictures_in_place_of_a_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "cifar10"):
        (tmp_path / name).mkdir()
    (tmp_path / "r.yaml").write_text("")
    for name in ("mine", "./cifar10", "cifar10/", str(tmp_path / "mine"), "r.yaml"):
        assert find_recipe(name).samefile(name)
    with pytest.warns(UserWarning, match=r"cifar10 is a built-in recipe; the folder is ./cifar10"):
        assert find_recipe("cifar10") == BUILT_IN / "cifar10.yaml"
    for name in ("cat.jpg", "r.txt"):
        (tmp_path / name).write_text("seed: 0")
        with pytest.raises(
            InputError, match=f"^{name} is neither a recipe, which ends in .yaml, nor a folder"
        ):
            find_recipe(name)
    with pytest.raises(InputError, match=r"^no such folder of pictures, and no such recipe: ./nothing"):
        find_recipe("./nothing")
    for name in ("", " "):
        with pytest.raises(InputError, match="the name of the recipe is empty"):
            find_recipe(name)
