import pytest
import torch

from benchmarks.to_lif import to_lif
from spikeclip import create_model
from spikeclip.errors import InputError

SMALL = {"image": {"widths": [8, 8]}, "text": {"vocab_size": 8, "eos_id": 7, "width": 8, "num_heads": 2}}


@pytest.mark.parametrize("range", [2.0, 3.0, 4.0])
def test_a_lif_network_starts_from_ilif_weights_and_its_spikes_go_with_the_levels(range):
    torch.manual_seed(0)
    source = create_model("spikeclip-tiny", neuron="ilif", range=range, **SMALL).eval()
    made = to_lif(source, T=4)
    assert (made.config.neuron.kind, made.config.neuron.T) == ("lif", 4)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in made.state_dict().items())
    current_TX = torch.randn(10_000).expand(4, -1)
    level_X = source.image.whiten_spike(current_TX[:1])[0]
    spikes_X = made.image.whiten_spike(current_TX).mean(0)
    assert torch.corrcoef(torch.stack([level_X, spikes_X]))[0, 1] > 0.85


def test_only_ilif_turns_into_lif():
    with pytest.raises(InputError, match="neuron=relu"):
        to_lif(create_model("spikeclip-tiny", neuron="relu", **SMALL))
