"""The published towers under their published names, against outputs and gradients of the published code."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from spikeclip import load_published
from spikeclip.errors import InputError
from spikeclip.export.published import _image_name, _matrix

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "data" / "golden"
IMAGE, TEXT = GOLDEN / "golden_image_small.safetensors", GOLDEN / "golden_text_small.safetensors"


@pytest.fixture(scope="module")
def image():
    return golden(IMAGE)


@pytest.fixture(scope="module")
def text():
    return golden(TEXT)


def golden(path):
    if not path.is_file():
        pytest.skip(f"the published towers' golden files are not at {GOLDEN}")
    return load_file(path)


def weights(tensors, prefix=""):
    return {prefix + k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}


def near(found, expected):
    """Share of elements within 1e-4: a spike may flip where a membrane is within rounding of the threshold."""
    return ((found - expected).abs() < 1e-4).float().mean().item()


def test_image_embeddings_are_the_published_ones(image):
    tower = load_published(IMAGE)
    assert not tower.training
    with torch.no_grad():
        assert near(tower(image["input"]), image["eval_output"]) >= 0.99


def test_text_embeddings_are_the_published_ones(text):
    tower = load_published(TEXT)
    assert not tower.training
    with torch.no_grad():
        assert near(tower(text["input_ids"]), text["eval_output"]) >= 0.99


def test_training_and_its_gradients_are_the_published_ones(image):
    tower = load_published(IMAGE).train()
    pictures = image["input"].requires_grad_()
    output = tower(pictures)
    (output * image["grad_weighting"]).sum().backward()
    found = dict(tower.named_parameters())
    pairs = {"train_output": (output, image["train_output"]), "input": (pictures.grad, image["grad.input"])}
    for key, gradient in image.items():
        if key.startswith("grad.") and key != "grad.input":
            name = key.removeprefix("grad.")
            pairs[name] = (found.pop(_image_name(name)).grad, _matrix(name, gradient))
    assert not found, "parameters without a published gradient"
    for name, (ours, theirs) in pairs.items():
        if theirs.abs().max() < 1e-4:  # a bias in front of BatchNorm: zero but for rounding
            assert ours.abs().max() < 1e-4, name
        else:
            assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999, name
            assert ours.norm().item() == pytest.approx(theirs.norm().item(), rel=0.02), name


def test_sizes_are_read_from_the_tensors(image, text):
    with safe_open(IMAGE, "pt") as file:
        sizes = file.metadata()
    tower = load_published(IMAGE)
    assert len(tower.blocks) == int(sizes["depths"])
    assert tower.readout[0].weights_T.numel() == int(sizes["T"])
    assert tower(image["input"]).shape == image["eval_output"].shape
    assert load_published(TEXT).context_length == text["input_ids"].shape[1]


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"epoch": 3, "state_dict": state}])
@pytest.mark.parametrize("kind", ["image", "text"])
def test_torch_files(request, tmp_path, kind, wrap, prefix):
    tensors = request.getfixturevalue(kind)
    torch.save(wrap(weights(tensors, prefix)), tmp_path / "published.pth")
    inputs = tensors["input" if kind == "image" else "input_ids"]
    with torch.no_grad():
        expected = load_published(IMAGE if kind == "image" else TEXT)(inputs)
        assert torch.equal(load_published(tmp_path / "published.pth")(inputs), expected)


def test_another_number_of_heads_is_taken_or_refused(image):
    with torch.no_grad():
        assert near(load_published(IMAGE, num_heads=4)(image["input"]), image["eval_output"]) < 0.99
    with pytest.raises(InputError, match="width 96 is not divisible into 7 heads"):
        load_published(IMAGE, num_heads=7)
    with pytest.raises(InputError, match="num_heads must be a whole number between 1 and 256, got 0"):
        load_published(IMAGE, num_heads=0)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("proj.bias", lambda x: x * float("nan"), "numbers of readout.1.bias are NaN or infinite"),
        ("proj.bias", lambda x: x.to(torch.int8), "readout.1.bias holds torch.int8, expected torch.float32"),
        (
            "proj.weight",
            lambda x: x[:, :1].expand(-1, 10**9),
            "'proj.weight' is not an array .* holds in full",
        ),
        ("proj.weight", lambda x: x.to_sparse(), "'proj.weight' is not an array .* holds in full"),
        ("proj.weight", lambda x: x[:0], "embed_dim|shapes|readout.1"),
        (
            "patch_embed.block0_conv.weight",
            lambda x: x[0, 0, 0, 0].clone(),
            "not have the shapes of a published",
        ),
    ],
)
def test_tensors_that_are_no_weights_are_refused(image, tmp_path, name, change, message):
    state = weights(image)
    torch.save({**state, name: change(state[name])}, tmp_path / "published.pth")
    with pytest.raises(InputError, match=f"published.pth: .*({message})"):
        load_published(tmp_path / "published.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("block.1.attn.q_conv.weight", "missing blocks.1.attention.q.linear.weight"),
        ("block.0.mlp.mlp1_conv.weight", "block.0.mlp.mlp1_conv.weight"),
        ("patch_embed.block3_bn.running_var", "missing stem.convs.3.bn.running_var"),
        ("patch_embed.block4_conv.weight", "patch_embed.block4_conv.weight"),
        ("weights_tensor", "weights_tensor"),
        ("proj.bias", r"missing readout.1.bias"),
    ],
)
def test_a_missing_image_tensor_is_named(image, tmp_path, name, message):
    state = weights(image)
    del state[name]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=message):
        load_published(tmp_path / "part.safetensors")


@pytest.mark.parametrize("name", ["clip_embedding.token_embedding.weight", "fc2.weight", "fc2.bias"])
def test_a_missing_text_tensor_is_named(text, tmp_path, name):
    state = weights(text)
    del state[name]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=name):
        load_published(tmp_path / "part.safetensors")


@pytest.mark.parametrize("name", ["head.weight", "patch_embed.pos", "block.0.gate", "block.0.attn.q_lif.w"])
def test_a_tensor_too_many_is_named(image, tmp_path, name):
    save_file(weights(image) | {name: torch.zeros(3)}, tmp_path / "more.safetensors")
    with pytest.raises(InputError, match=f"unexpected .*{name.split('.')[-1]}"):
        load_published(tmp_path / "more.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1.weight": torch.zeros(3)}, "neither a published image tower nor a published text tower"),
        ({"fc1.weight": torch.zeros(3, 3)}, "clip_embedding.token_embedding.weight"),
        ([torch.zeros(3)], "holds no state dict"),
        ({"weights": [1, 2]}, "holds no state dict"),
        ({0: torch.zeros(3)}, "holds no state dict"),
        (Path("a pickled object"), "cannot be read as weights"),
    ],
)
def test_foreign_files(tmp_path, content, message):
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(InputError, match=message):
        load_published(tmp_path / "foreign.pth")


@pytest.mark.parametrize("name", ["noise.pth", "noise.safetensors"])
def test_a_damaged_file_and_none(tmp_path, name):
    with pytest.raises(InputError, match="no such file"):
        load_published(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x00 not weights")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_published(tmp_path / name)
