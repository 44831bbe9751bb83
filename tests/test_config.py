import dataclasses
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spikeclip.config import (
    PRESETS,
    ImageConfig,
    ImageFormat,
    ModelConfig,
    ModelSettings,
    NeuronConfig,
    RunConfig,
    from_dict,
    model_config,
    to_dict,
)
from spikeclip.errors import InputError
from spikeclip.train.recipe import changed_settings


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_called_what_they_say_and_survive_json(name):
    config = model_config(name)
    assert config.name == name
    assert config == PRESETS[name]()
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config


@given(
    st.builds(
        NeuronConfig,
        kind=st.sampled_from(["lif", "plif", "ilif", "relu", "quant_relu"]),
        tau=st.floats(1.01, 100),
        v_reset=st.none() | st.floats(-1, 0),
        learn_range=st.booleans(),
    )
)
def test_configs_survive_yaml(config):
    assert from_dict(NeuronConfig, yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config


def test_a_recipe_is_read_with_its_nested_parts():
    recipe = yaml.safe_load(
        "model: {name: spikeclip-tiny, neuron: lif}\ndata: {source: shapes}\n"
        "stages:\n- stage: finetune\n  optimizer: {lr: 1e-3, clip_norm: null}\n  loss: {kl: 2}\n"
    )
    config = from_dict(RunConfig, recipe)
    assert config.model == ModelSettings(name="spikeclip-tiny", neuron="lif")
    stage = config.stages[0]
    assert (stage.stage, stage.optimizer.lr, stage.optimizer.clip_norm) == ("finetune", 1e-3, None)
    assert (stage.loss.kl, type(stage.loss.kl)) == (2.0, float)
    assert stage.epochs == 10


def test_settings_of_a_model_have_every_field_of_a_neuron():
    fields = {f.name for f in dataclasses.fields(NeuronConfig)} - {"kind"}
    assert fields < {f.name for f in dataclasses.fields(ModelSettings)}
    assert ModelSettings().resolve() == model_config("spikeclip-tiny")


def settings(text: str) -> ModelSettings:
    return from_dict(ModelSettings, yaml.safe_load(text))


def test_null_is_a_soft_reset_and_nothing_is_the_preset():
    soft = settings("{neuron: lif, v_reset: null, detach_reset: false}")
    assert (soft.resolve().neuron.v_reset, soft.resolve().neuron.detach_reset) == (None, False)
    plain = settings("neuron: lif")
    assert (plain.resolve().neuron.v_reset, plain.resolve().neuron.detach_reset) == (0.0, True)
    fixed = settings("{neuron: lif, v_reset: -0.5}")
    assert fixed.resolve().neuron.v_reset == -0.5
    for one in (soft, plain, fixed):
        assert from_dict(ModelSettings, json.loads(json.dumps(to_dict(one)))) == one


@pytest.mark.parametrize("saved", [{"name": "spikeclip-tiny"}, {"neuron": "lif", "v_reset": None, "T": 2}])
def test_a_recipe_saved_by_an_older_version_is_the_same(saved):
    rest = {"data": {"source": "shapes"}, "stages": [{"stage": "contrastive"}]}
    now = from_dict(RunConfig, {"model": saved, **rest})
    values = to_dict(now)
    assert changed_settings({**values, "model": saved}, now) == []
    assert changed_settings(json.loads(json.dumps(values)), now) == []
    assert changed_settings({**values, "model": {**saved, "T": 3}}, now) == ["model"]
    assert changed_settings(rest, from_dict(RunConfig, rest)) == []


def test_a_saved_model_takes_no_changes():
    assert settings("pretrained: runs/a").pretrained == "runs/a"
    with pytest.raises(
        InputError, match=r"remove the other settings of the model, D \(of a recipe: model\.D=null\)"
    ):
        settings("{pretrained: runs/a, D: 2}")
    with pytest.raises(InputError, match="did you mean 'neuron'"):
        settings("nuron: lif")


def test_the_shape_of_pictures_and_recordings():
    assert ImageFormat(32).shape == ImageConfig(image_size=32).shape == (32, 32, 3)
    assert ImageConfig(event_frames=4).format == ImageFormat(32, 4)
    assert (ImageFormat(8, 1).shape, ImageFormat(8, 4).shape) == ((8, 8, 2), (8, 8, 4, 2))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"stagse": []}, r"unknown key in the recipe 'stagse'; did you mean 'stages'\?"),
        ({"stages": [{"epoch": 1}]}, r"unknown key in stages.0 'epoch'; did you mean 'epochs'\?"),
        ({"stages": [{"stage": "fine"}]}, r"unknown value of stages.0.stage 'fine'"),
        (
            {"stages": {"stage": "finetune"}},
            r"stages: expected list of tables with stage, got {'stage': 'finetune'}",
        ),
        ({"stages": [{"epochs": "ten"}]}, r"stages.0.epochs: expected int, got 'ten'"),
        ({"stages": [{"epochs": 1.5}]}, r"stages.0.epochs: expected int, got 1.5"),
        ({"seed": True}, r"seed: expected int, got True"),
        ({"compile": "yes"}, r"compile: expected auto or bool, got 'yes'"),
        ({"data": "cifar10"}, r"data: expected a table of settings, got 'cifar10'"),
        ({"data": {"val_fraction": "much"}}, r"data.val_fraction: expected float, got 'much'"),
        ([], r"RunConfig: expected a table of settings, got \[\]"),
    ],
)
def test_a_mistake_in_a_recipe_is_named_with_its_place(recipe, message):
    with pytest.raises(InputError, match=message):
        from_dict(RunConfig, recipe)


@pytest.mark.parametrize("values", [{"mean": [0.5, 0.5]}, {"mean": 0.5}, {"widths": [8, "x"]}])
def test_tuples_have_their_length_and_type(values):
    with pytest.raises(InputError, match=next(iter(values))):
        from_dict(ImageConfig, values)


def test_the_number_of_steps_follows_the_neuron():
    assert model_config("spikeclip-paper").neuron.T == 4
    assert model_config("spikeclip-paper", neuron="relu").neuron.T == 1
    assert model_config("spikeclip-base", neuron="lif").neuron.T == 4
    assert model_config("spikeclip-base", neuron="ilif", T=3).neuron.T == 3
    assert model_config("spikeclip-paper", T=2).neuron == NeuronConfig(kind="lif", T=2)


def test_overrides_leave_the_rest_alone():
    config = model_config("spikeclip-base", image_size=64, embed_dim=256, D=8, text={"depth": 1})
    base = model_config("spikeclip-base")
    assert config.image == dataclasses.replace(base.image, image_size=64)
    assert config.text == dataclasses.replace(base.text, depth=1)
    assert config.neuron == dataclasses.replace(base.neuron, D=8)
    assert config.embed_dim == 256
    assert model_config("spikeclip-base") == base


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"neurons": "lif"}, r"unknown model setting 'neurons'; did you mean 'neuron'\?"),
        ({"treshold": 1.0}, r"unknown model setting 'treshold'; did you mean 'v_threshold'\?"),
        ({"neuron": "lfi"}, r"unknown value of neuron.kind 'lfi'; did you mean 'lif'\?"),
        ({"surrogate": "arctan"}, r"unknown value of neuron.surrogate 'arctan'; did you mean 'atan'\?"),
        ({"image": {"width": [8]}}, r"unknown key in image 'width'; did you mean 'widths'\?"),
        ({"text": {"architecture": "lstm"}}, r"unknown value of text.architecture 'lstm'"),
        ({"image": 32}, r"image: expected a table of settings, got 32"),
        ({"text": "small"}, r"text: expected a table of settings, got 'small'"),
        ({"T": 2.5}, r"T must be a whole number between 1 and 1,024, got 2.5"),
        ({"embed_dim": "512"}, r"embed_dim must be a whole number between 1 and 8,192, got '512'"),
        ({"neuron": "relu", "T": 2}, r"neuron=relu has no time: use T=1, not T=2"),
        ({"neuron": "quant_relu", "T": 2}, r"neuron=quant_relu has no time.*D = T x D"),
        ({"T": 0}, r"T must be a whole number between 1 and 1,024, got 0"),
        ({"D": 0}, r"D must be a whole number between 1 and 255, got 0"),
        ({"D": 256}, r"D must be a whole number between 1 and 255, got 256"),
        ({"embed_dim": 0}, r"embed_dim must be a whole number between 1 and 8,192, got 0"),
        ({"tau": 1.0}, r"tau must be a number above 1 and at most 1,000,000, got 1.0"),
        ({"range": 0.0}, r"range must be a number between 0.001 and 10,000, got 0.0"),
        ({"image": {"widths": [8, 0]}}, r"image.widths.1 must be a whole number between 1 and 8,192, got 0"),
        ({"image": {"depth": -1}}, r"image.depth must be a whole number between 0 and 128, got -1"),
        ({"text": {"mlp_ratio": 0}}, r"text.mlp_ratio must be a whole number between 1 and 32, got 0"),
        ({"neuron": "lif", "T": 3, "image": {"event_frames": 2}}, r"event_frames must be T.*got 2 with T=3"),
        ({"text": {"vocab_size": 300}}, r"text.eos_id 49407 is outside a vocabulary of 300 tokens"),
    ],
)
def test_settings_that_cannot_work_say_why(overrides, message):
    with pytest.raises(InputError, match=message):
        model_config("spikeclip-tiny", **overrides)


def test_an_unknown_model_suggests_one():
    with pytest.raises(InputError, match=r"unknown model 'spikeclip-bass'; did you mean 'spikeclip-base'\?"):
        model_config("spikeclip-bass")
    with pytest.raises(InputError, match=r"unknown model 'vit'; known: spikeclip-base, .*spikeclip-tiny"):
        model_config("vit")
