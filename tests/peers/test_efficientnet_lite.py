"""Our tower with ReLU neurons against the public implementation of EfficientNet-Lite, with random weights of it."""

import pytest
import torch

from spikeclip.errors import InputError
from spikeclip.towers.network import read_network

peer = pytest.importorskip(
    "efficientnet_lite_pytorch",
    reason="the public network is not installed: pip install --no-deps efficientnet-lite-pytorch==0.1.0",
)


@pytest.mark.parametrize(("name", "side"), [("lite0", 224), ("lite1", 131), ("lite2", 96)])
def test_the_answers_are_theirs(name, side, tmp_path):
    torch.manual_seed(0)
    network = peer.EfficientNet.from_name(f"efficientnet-{name}", image_size=side).train()
    with torch.no_grad():  # statistics and gains of a trained network, or every answer is about nought
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.9
                module.weight.uniform_(0.8, 1.2)
                module.bias.normal_(0, 0.2)
        network(torch.randn(4, 3, side, side))
    network.eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    ours = read_network(str(tmp_path / "weights.pth"), image_size=side)
    assert ours.name == f"efficientnet-{name}"
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        wanted = network(x)
        torch.testing.assert_close(ours.tower(x), wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", ["lite0", "lite1", "lite2"])
def test_the_packages_weights_give_their_answers(name):
    try:
        ours = read_network(f"efficientnet-{name}")
    except InputError as missing:
        pytest.skip(str(missing))
    from spikeclip.towers.network import _package_file, families

    file = _package_file(ours.name, families()[0].networks[ours.name])
    network = peer.EfficientNet.from_name(ours.name).eval()
    network.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(2, 3, *ours.config.image.shape[:2], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert float((ours.tower(x) - network(x)).abs().max()) < 1e-4
