"""Every contestant computes what our PyTorch path computes in fp32, so that their speeds can be compared."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.contestants import CONTESTANTS, Job
from benchmarks.plain import PlainTower

BATCH = 4


@pytest.mark.parametrize("name", [name for name in CONTESTANTS if "compiled" not in name])
def test_embeddings_are_those_of_our_tower(name, network):
    folder, tower, pictures_NHWC = network(CONTESTANTS[name].weights)
    rounded = "int8" in name or "bf16" in name
    if rounded and CONTESTANTS[name].weights != "relu" and len(tower.blocks):
        pytest.skip("rounding flips spikes, and untrained attention multiplies them: no bound holds")
    batch_BHWC = pictures_NHWC[:BATCH]
    try:
        embed, _ = CONTESTANTS[name].build(Job(name, str(folder), BATCH, threads=1))
    except ImportError as error:
        pytest.skip(str(error))
    made_BD = torch.from_numpy(np.array(embed(batch_BHWC)))
    with torch.no_grad():
        wanted_BD = tower(torch.from_numpy(batch_BHWC).permute(0, 3, 1, 2))
    assert made_BD.dtype == torch.float32
    assert F.cosine_similarity(made_BD, wanted_BD).min() > 0.99
    if not rounded:
        differs_B = (made_BD - wanted_BD).abs().amax(1) > 1e-3 * wanted_BD.abs().max()
        # Folding BatchNorm rounds too, so the engine may fire a spike more or less in a picture.
        assert differs_B.sum() <= ("engine" in name)
    assert F.cosine_similarity(wanted_BD[:1], wanted_BD[1:]).max() < 0.99  # the pictures differ


def test_only_an_ordinary_network_has_a_plain_form(network):
    _, tower, _ = network("ilif")
    with pytest.raises(ValueError, match="relu"):
        PlainTower(tower)


def test_a_tower_learns_the_same_on_spikingjelly_neurons(network):
    """Gradients too, as `benchmarks.training` compares training steps."""
    pytest.importorskip("spikingjelly")
    from benchmarks.peers import OnSpikingJelly

    _, tower, pictures_NHWC = network("lif")
    x_BCHW = torch.from_numpy(pictures_NHWC).permute(0, 3, 1, 2)
    gradients = []
    for module in (copy.deepcopy(tower), OnSpikingJelly(copy.deepcopy(tower), every_step=False)):
        module.train()(x_BCHW).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in module.parameters()]))
    torch.testing.assert_close(
        gradients[0], gradients[1], rtol=1e-3, atol=1e-4 * gradients[0].abs().max().item()
    )
