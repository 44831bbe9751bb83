"""Our LIF against SpikingJelly's, the field's most used implementation."""

import pytest
import torch

from spikeclip.neurons import LIF

neuron = pytest.importorskip(
    "spikingjelly.activation_based.neuron",
    reason="SpikingJelly is not installed: pip install --no-deps spikingjelly==0.0.0.0.14",
)
surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")


@pytest.mark.parametrize("v_reset", [0.0, -0.25, None])
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("sigmoid", surrogate.Sigmoid(alpha=4.0)), ("atan", surrogate.ATan(alpha=4.0))],
    ids=["sigmoid", "atan"],
)
@pytest.mark.parametrize("tau", [2.0, 5.0])
def test_spikes_and_gradients_are_theirs(tau, ours, theirs, detach_reset, v_reset):
    generator = torch.Generator().manual_seed(0)
    x_TBC = torch.randn(8, 4, 100, generator=generator) * tau
    weights_TBC = torch.randn(8, 4, 100, generator=generator)
    peer = neuron.LIFNode(
        tau, True, 1.0, v_reset, surrogate_function=theirs, detach_reset=detach_reset, step_mode="m"
    )
    own = LIF(tau, 1.0, v_reset, detach_reset, surrogate=ours, alpha=4.0)
    results = []
    for node in (peer, own):
        current = x_TBC.clone().requires_grad_()
        spikes = node(current)
        (spikes * weights_TBC).sum().backward()
        results.append((spikes.detach(), current.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert 0.05 < results[0][0].mean() < 0.9
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)
