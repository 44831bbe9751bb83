import dataclasses
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import spikeclip
from spikeclip import create_model, from_pretrained, interpolate, list_models
from spikeclip.config import Taught
from spikeclip.data import Tokenizer
from spikeclip.errors import InputError
from spikeclip.model import SpikeCLIP

TEXTS = ["a red circle", "a small blue square", "two green triangles"]
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, 300)


@pytest.fixture
def make(tokenizer):
    def make(seed=0, tokenized=True, **changes) -> SpikeCLIP:
        torch.manual_seed(seed)
        text = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, "context_length": 24}
        text |= {"width": 16, "depth": 1, "num_heads": 2}
        image = {"widths": [8, 16], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
        model = create_model(
            "spikeclip-tiny", **{"embed_dim": 16, "image": image, "text": text, "range": 1.0, **changes}
        )
        model.tokenizer = tokenizer if tokenized else None
        return model.eval()

    return make


def embeddings(model):
    with torch.no_grad():
        return model.encode_image(IMAGES), model.encode_text(model.tokenize(TEXTS)), model.logit_scale


def assert_same(model, other):
    for ours, theirs in zip(embeddings(model), embeddings(other), strict=True):
        assert torch.equal(ours, theirs)


def test_weights_between_two_models(make):
    before, after = make(seed=0), make(seed=1)
    assert_same(interpolate(before, after, 0), before)
    assert_same(interpolate(before, after, 1), after)
    halfway = interpolate(before, after, 0.5).state_dict()
    start, end = before.state_dict(), after.state_dict()
    for name, value in halfway.items():
        torch.testing.assert_close(2 * value, start[name] + end[name])
    assert any(not torch.equal(value, end[name]) for name, value in start.items())


def test_weights_lie_between_models_of_one_kind_only(make):
    with pytest.raises(InputError, match="from 0 to 1, got 2"):
        interpolate(make(), make(), 2)
    with pytest.raises(InputError, match="one configuration; these differ in neuron"):
        interpolate(make(), make(neuron="relu"), 0.5)
    with pytest.raises(InputError, match="one tokenizer"):
        interpolate(make(), make(tokenized=False), 0.5)


@pytest.mark.parametrize("neuron", ["lif", "plif", "ilif", "relu", "quant_relu"])
def test_a_saved_model_is_the_same_model(make, tmp_path, neuron):
    model = make(neuron=neuron, learn_range=True)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(0.01)
    model.save_pretrained(tmp_path)
    loaded = from_pretrained(tmp_path)
    assert not loaded.training
    assert loaded.config == model.config
    assert loaded.tokenizer.fingerprint == model.tokenizer.fingerprint
    assert loaded.fingerprint == model.fingerprint
    assert_same(loaded, model)
    assert_same(SpikeCLIP.from_pretrained(str(tmp_path)), model)


def test_equal_weights_under_other_neurons_are_another_model(make):
    model = make(neuron="ilif")
    others = [
        make(neuron="ilif", **settings)
        for settings in ({"D": 2}, {"range": 3.0}, {"T": 2}, {"first_D": (16,)}, {"first_range": (6.0,)})
    ] + [make(neuron="lif"), make(neuron="relu")]
    for other in others:
        other.load_state_dict(model.state_dict())
    assert len({each.fingerprint for each in [model, *others]}) == 8
    assert make(neuron="ilif").fingerprint == model.fingerprint


def test_loading_a_folder_needs_no_network(make, tmp_path):
    make().save_pretrained(tmp_path)
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import spikeclip\n"
        "print(spikeclip.from_pretrained(sys.argv[1]).config.name)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("spikeclip-tiny\n", 0), done.stderr


def test_saving_again_replaces_the_model_but_not_its_card(make, tmp_path):
    make().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("written by hand")
    other = make(seed=1, T=2)
    other.save_pretrained(tmp_path)
    assert_same(from_pretrained(tmp_path), other)
    assert (tmp_path / "README.md").read_text() == "written by hand"
    make(tokenized=False).save_pretrained(tmp_path)
    assert from_pretrained(tmp_path).tokenizer is None
    assert sorted(os.listdir(tmp_path)) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    "broken",
    ["spikeclip.model.save", "spikeclip.model.saved_values", "spikeclip.data.Tokenizer.to_json", "os.fsync"],
)
def test_a_save_that_fails_leaves_the_old_model(make, tmp_path, monkeypatch, broken):
    old = make()
    old.save_pretrained(tmp_path)
    before = sorted(os.listdir(tmp_path))

    def full(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(broken, full)
        with pytest.raises(OSError, match="No space left"):
            make(seed=1, embed_dim=8).save_pretrained(tmp_path)
    assert_same(from_pretrained(tmp_path), old)
    assert sorted(os.listdir(tmp_path)) == before


def test_pushing_uploads_what_was_saved(make, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", lambda **_: Api(calls))
    assert make().save_pretrained(tmp_path / "mine", push_to_hub=True) == "url"
    assert make().push_to_hub("owner/mine", private=True) == "url"
    assert calls == [
        ("mine", ["README.md", "config.json", "model.safetensors", "tokenizer.json"]),
        ("owner/mine", ["README.md", "config.json", "model.safetensors", "tokenizer.json"]),
    ]
    assert from_pretrained(tmp_path / "mine").config.embed_dim == 16


class Api:
    """Stands in for the hub."""

    def __init__(self, calls):
        self.calls = calls

    def create_repo(self, repo_id, **_):
        return type("Url", (), {"repo_id": repo_id})

    def upload_folder(self, repo_id, folder_path, **_):
        self.calls.append((repo_id, sorted(os.listdir(folder_path))))
        return "url"


def test_a_model_by_hub_name(make, tmp_path, monkeypatch):
    model = make()
    model.save_pretrained(tmp_path)

    def download(repo_id, revision=None, allow_patterns=()):
        assert (repo_id, revision) == ("owner/model", "v1")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert_same(from_pretrained("owner/model", revision="v1"), model)


@pytest.mark.parametrize("name", ["no-such-folder", "./a/b", "a/b/c", "/nowhere/at/all"])
def test_neither_a_folder_nor_a_hub_name(name):
    with pytest.raises(InputError, match=f"no such folder: '{name}'"):
        from_pretrained(name)


class Hub:
    """Stands in for the hub: what it says of a model, and what it gives."""

    def __init__(self, monkeypatch, says, gives):
        self.asked = []
        monkeypatch.setattr(
            "huggingface_hub.HfApi.model_info", lambda _, name, **__: self._answer(name, says)
        )
        monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **o: self._answer(o, gives))

    def _answer(self, asked, answer):
        self.asked.append(asked)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)


def test_a_hub_that_gives_nothing_is_asked_once(monkeypatch):
    hub = Hub(monkeypatch, "", PermissionError("gated"))
    with pytest.raises(
        InputError, match=r"owner/model: no such folder, .* gave no model .*PermissionError: gated"
    ):
        from_pretrained("owner/model")
    assert len(hub.asked) == 2


def test_without_a_network_an_earlier_download_is_read(make, tmp_path, monkeypatch):
    model = make()
    model.save_pretrained(tmp_path)
    hub = Hub(monkeypatch, ConnectionError("no route"), tmp_path)
    assert_same(from_pretrained("owner/model"), model)
    assert hub.asked[0] == "owner/model"
    assert hub.asked[1]["local_files_only"] is True
    Hub(monkeypatch, ConnectionError("no route"), FileNotFoundError())
    with pytest.raises(
        InputError, match="hub is not reached, and no model of this name was downloaded before"
    ):
        from_pretrained("owner/model")


def test_names_that_are_near(make, tmp_path, monkeypatch):
    make().save_pretrained(tmp_path / "runs" / "cifar10" / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", None)  # a path is not asked for there
    for typed in ("runs/cifar1O", "runs/cifar", "cifar10", "./runs/cifar10x"):
        with pytest.raises(InputError, match=f"no such folder: '{typed}'; did you mean 'runs/cifar10'"):
            from_pretrained(typed)
    with pytest.raises(
        InputError, match=r"'spikeclip-tiny' is a preset, a network that has yet to be trained"
    ):
        from_pretrained("spikeclip-tiny")
    for typed in ("spikeclip-lite", "SpikeCLIP-Lite0", "./spikeclip-lit0"):
        with pytest.raises(InputError, match=f"no such model: '{typed}'; did you mean 'spikeclip-lite0'"):
            from_pretrained(typed)
    assert from_pretrained("runs/cifar10 ").config.name == "spikeclip-tiny"
    with pytest.raises(InputError, match=r"config.json' is a file; a model is a folder"):
        from_pretrained("runs/cifar10/model/config.json")
    for typed in ("a\0b", "x" * 5000, ""):
        with pytest.raises(InputError):
            from_pretrained(typed)


def edit_config(folder, change):
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "is not a model: expected config.json in the folder"),
        (lambda f: (f / "config.json").write_text('{"model_type": '), "config.json is not valid JSON"),
        (lambda f: (f / "config.json").write_text("[1, 2]"), "does not describe a spikeclip model"),
        (
            lambda f: edit_config(f, lambda v: v.update(model_type="clip")),
            "does not describe a spikeclip model",
        ),
        (
            lambda f: edit_config(f, lambda v: v.update(new_key=1)),
            "unknown key in .*config.json 'new_key'",
        ),
        (
            lambda f: edit_config(f, lambda v: v["neuron"].update(tau="x")),
            "neuron.tau: expected float, got 'x'",
        ),
        (
            lambda f: edit_config(f, lambda v: v["neuron"].update(T=0)),
            "neuron.T must be a whole number between 1 and 1,024, got 0",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "has a config.json but no model.safetensors"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-99]),
            "model.safetensors is not a readable safetensors file",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"PK\x03\x04 a pickle"),
            "model.safetensors is not a readable safetensors file",
        ),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json is not a tokenizer.json"),
    ],
)
def test_a_damaged_folder_is_described(make, tmp_path, damage, message):
    make().save_pretrained(tmp_path)
    damage(tmp_path)
    for load in (from_pretrained, SpikeCLIP.from_pretrained):
        with pytest.raises(InputError, match=message):
            load(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("log_scale", lambda x: x * math.nan, "1 of 1 numbers of log_scale are NaN or infinite"),
        (
            "text.token.weight",
            lambda x: x / 0.0,
            r"4736 of 4736 numbers of text.token.weight are NaN or infinite",
        ),
        (
            "text.position.weight",
            lambda x: x.to(torch.int8),
            "text.position.weight holds I8, expected torch.float32",
        ),
        ("text.position.weight", lambda x: x > 0, "text.position.weight holds BOOL, expected torch.float32"),
        (
            "image.groups.0.bn.running_var",
            lambda x: -x,
            "running_var is a variance, and holds numbers below 0",
        ),
        ("image.groups.0.bn.running_var", lambda x: x[:0], r"running_var is \(0,\), expected \(8,\)"),
    ],
)
def test_weights_that_are_no_weights_are_refused(make, tmp_path, name, change, message):
    make().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({**state, name: change(state[name])}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=f"model.safetensors.*{message}"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_read(make, tmp_path, dtype):
    model = make()
    model.save_pretrained(tmp_path)
    state = {name: value.to(dtype) for name, value in load_file(tmp_path / "model.safetensors").items()}
    save_file(state, tmp_path / "model.safetensors")
    for name, value in from_pretrained(tmp_path).state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[name].float())


def test_the_version_is_saved_and_a_newer_one_is_told(make, tmp_path):
    make().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["version"] == spikeclip.__version__
    edit_config(tmp_path, lambda values: values.update(version="99.0.1"))
    with pytest.warns(UserWarning, match=f"saved by spikeclip 99.0.1, and this is {spikeclip.__version__}"):
        from_pretrained(tmp_path)
    edit_config(tmp_path, lambda values: values.update(new_key=1))
    with pytest.raises(InputError, match=r"unknown key .*'new_key'.*99.0.1.*: install the newer one"):
        from_pretrained(tmp_path)
    edit_config(tmp_path, lambda values: (values.pop("version"), values.pop("new_key")))
    assert from_pretrained(tmp_path).config == make().config


def test_what_a_model_was_taught_with_goes_where_it_goes(make, tmp_path):
    model = make()
    assert model.taught.prompts == ["a photo of a {c}."]
    model.taught = Taught(["a {c}"], {"automobile": "car"}, ["cifar10"], scores={"test accuracy": 0.5})
    model.save_pretrained(tmp_path)
    loaded = from_pretrained(tmp_path)
    assert loaded.taught == model.taught
    assert loaded.taught.prompts == ["a {c}"]
    assert loaded.taught.renames_of(["automobile", "cat"]) == {"automobile": "car"}
    assert loaded.taught.renames_of(["automobile", "car"]) == loaded.taught.renames_of(["cat"]) == {}
    between = interpolate(make(seed=1), loaded, 0.25).taught
    assert (between.templates, between.renames, between.scores) == (["a {c}"], {"automobile": "car"}, {})
    assert between.stages == ["weights between before the last training and after it, share 0.25"]


@pytest.mark.parametrize(
    ("taught", "message"),
    [
        ({"templates": ["a photo"]}, r"taught.templates: 'a photo' lacks {c}"),
        ({"templates": "a {c}"}, "taught.templates: expected list"),
        ({"templates": [3]}, "taught.templates.0: expected str"),
        ({"renames": {"a": 3}}, "taught.renames.a: expected str"),
        ({"renames": ["a"]}, "taught.renames: expected table"),
        ({"scores": {"test": math.nan}}, "taught.scores.test must be a number, got nan"),
        ({"scores": {"test": "good"}}, "taught.scores.test: expected float"),
        ({"teacher": "x" * 5000}, "taught.teacher has 5,000 characters"),
        ({"temples": []}, "unknown key in taught 'temples'; did you mean 'templates'"),
        ([], "expected a table of settings"),
    ],
)
def test_a_damaged_account_of_the_training_is_described(make, tmp_path, taught, message):
    make().save_pretrained(tmp_path)
    edit_config(tmp_path, lambda values: values.update(taught=taught))
    with pytest.raises(InputError, match=f"config.json: .*{message}"):
        from_pretrained(tmp_path)


def test_the_card_says_what_a_model_is(make, tmp_path):
    model = make()
    model.taught = Taught(
        ["a {c}"],
        {"automobile": "car"},
        ["cifar10"],
        "tables/clip.npz",
        ["align_image, 15 epochs"],
        3,
        {"test accuracy, cifar10": 0.8855},
    )
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    megabytes = (tmp_path / "model.safetensors").stat().st_size / 1e6
    for part in (
        "# spikeclip-tiny",
        "| image tower | conv of widths 8, 16, pictures of 32 x 32 pixels, 0.0 M parameters |",
        "| text tower | transformer of width 16, 1 blocks, up to 24 tokens, 0.0 M parameters |",
        "| neuron | I-LIF, integer spikes up to D, T=1, D=4 |",
        "| embedding space | 16 dimensions, that of the teacher tables/clip.npz |",
        "- data: cifar10\n- stages: align_image, 15 epochs\n- seed: 3\n- prompts: `a {c}`\n",
        "- class names replaced: automobile by car",
        "- test accuracy, cifar10: 88.55 %",
        f"- weights: {megabytes:.1f} MB\n\nEnergy is not counted. `spikeclip energy",
        "Nobody has stated a licence of these weights.",
    ):
        assert part in card
    model.taught = Taught()
    model.save_taught(tmp_path)
    assert "## Scores\n\nNot measured." in (tmp_path / "README.md").read_text()
    assert from_pretrained(tmp_path).taught == Taught()


def test_files_of_a_model_are_as_readable_as_others(make, tmp_path):
    before = os.umask(0o022)
    try:
        make().save_pretrained(tmp_path)
    finally:
        os.umask(before)
    assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {"0o644"}


def test_weights_of_another_model_are_described(make, tmp_path):
    make().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    renamed = {("other" if name == "log_scale" else name): value for name, value in state.items()}
    save_file(renamed, file)
    with pytest.raises(
        InputError, match=r"does not match its configuration: missing log_scale; unexpected other$"
    ):
        from_pretrained(tmp_path)
    save_file(state, file)
    edit_config(tmp_path, lambda values: values.update(embed_dim=8))
    with pytest.raises(
        InputError, match=r"image.readout.linear.weight is \(16, 16\), expected \(8, 16\); .* and 1 more"
    ):
        from_pretrained(tmp_path)


def test_encoders_return_fp32_and_unit_vectors_where_asked(make):
    model, tokens = make(), make().tokenize(TEXTS)
    with torch.autocast("cpu", torch.bfloat16):
        pairs = [
            (model.encode_image(IMAGES), model.encode_image(IMAGES, normalize=True)),
            (model.encode_text(tokens), model.encode_text(tokens, normalize=True)),
        ]
    for raw, unit in pairs:
        assert raw.shape == unit.shape == (3, 16)
        assert raw.dtype == unit.dtype == torch.float32
        torch.testing.assert_close(unit.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(unit * raw.norm(dim=1, keepdim=True), raw)


def test_similarities_are_cosines_times_the_scale(make):
    model = make()
    tokens = model.tokenize(TEXTS[:2])
    with torch.no_grad():
        logits = model(IMAGES, tokens)
        assert model.logit_scale.item() == pytest.approx(1 / 0.07)
        images, texts = model.encode_image(IMAGES), model.encode_text(tokens)
        expected = torch.cosine_similarity(images[:, None], texts[None], dim=2) / 0.07
        torch.testing.assert_close(logits, expected)
        model.log_scale.fill_(math.log(1000))
        assert model.logit_scale.item() == pytest.approx(100)


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 1, 32, 32), (2, 3, 64, 64), (2, 3, 32, 31)])
def test_pictures_of_another_shape(make, shape):
    with pytest.raises(InputError, match=r"expected images of shape \(B, 3, 32, 32\), got \(\d"):
        make().encode_image(torch.zeros(shape))


@pytest.mark.parametrize("tokens", [torch.zeros(4).long(), torch.zeros(2, 4), torch.zeros(2, 0).long()])
def test_token_ids_of_another_shape(make, tokens):
    with pytest.raises(InputError, match=r"expected token ids of shape \(B, L\), got \(\d"):
        make().encode_text(tokens)


@pytest.mark.parametrize("token", [-1, 300, 49407])
def test_token_ids_of_another_vocabulary(make, token):
    model = make()
    tokens = model.tokenize(TEXTS)
    tokens[1, 1] = token
    with pytest.raises(
        InputError, match=f"token ids from .*{token}.* vocabulary has {model.tokenizer.vocab_size}"
    ):
        model.encode_text(tokens)
    last = torch.tensor([[model.tokenizer.vocab_size - 1, 0]])
    assert model.encode_text(last).isfinite().all()


def test_encoding_text_compiles_in_one_piece(make):
    model = make()
    tokens = model.tokenize(TEXTS)
    compiled = torch.compile(model.encode_text, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(tokens), model.encode_text(tokens))


def test_empty_batches_have_empty_embeddings(make):
    model = make()
    assert model.encode_image(IMAGES[:0]).shape == (0, 16)
    assert model.encode_text(torch.zeros(0, 5).long()).shape == (0, 16)


def test_texts_need_a_tokenizer_and_are_cut_to_the_context(make):
    with pytest.raises(
        InputError, match=r"this model \(spikeclip-tiny\) has no tokenizer, so it reads no texts"
    ):
        make(tokenized=False).tokenize("a cat")
    model = make()
    tokens = model.tokenize(["a", "word " * 60])
    assert tokens.shape == (2, 24)
    assert tokens[1, -1] == model.tokenizer.eos_id
    assert model.encode_text(tokens).isfinite().all()


def test_presets_are_listed():
    assert list_models() == [
        "spikeclip-paper",
        "spikeclip-base",
        "spikeclip-tiny",
        "spikeclip-lite0",
        "spikeclip-lite1",
        "spikeclip-lite2",
    ]
    with pytest.raises(InputError, match="unknown model 'spikeclip-tinny'; did you mean 'spikeclip-tiny'"):
        create_model("spikeclip-tinny")


def test_a_configuration_is_checked_where_the_model_is_built(make):
    config = make(neuron="relu").config
    config = dataclasses.replace(config, neuron=dataclasses.replace(config.neuron, T=2))
    with pytest.raises(InputError, match="neuron=relu has no time: use T=1, not T=2"):
        SpikeCLIP(config)


def test_an_input_of_too_many_steps_and_pixels_is_refused():
    with pytest.raises(InputError, match=r"1,024 time steps of 224 x 224 pixels are .* at most 2,097,152"):
        create_model("spikeclip-tiny", T=1024, image_size=224)


def test_answers_that_are_not_numbers_are_no_answers():
    from spikeclip.encode.classify import rank

    class Broken:
        name, logit_scale = "broken", 1.0

        def encode_image(self, images):
            return np.full((len(images), 2), np.nan, np.float32)

    with pytest.raises(InputError, match="1 of 1 embeddings of pictures by broken are not numbers"):
        rank(Broken(), np.zeros((1, 8, 8, 3), np.uint8), np.eye(2, dtype=np.float32), ["a", "b"])
