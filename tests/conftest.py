from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import nn

from spikeclip import create_model
from spikeclip.neurons import Neuron
from spikeclip.towers.norm import BatchNorm
from spikeclip.towers.separable import SeparableConv

settings.register_profile("untimed", deadline=None)  # a first call compiles
settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
EOS = 59
_TEXT = {"vocab_size": 60, "eos_id": EOS}
_TRANSFORMER = {**_TEXT, "width": 16, "depth": 1, "num_heads": 2}
_SPIKINGFORMER = {"widths": [4, 8, 8, 16, 16], "depth": 1, "num_heads": 4, "mlp_ratio": 2}
_SMALL = {
    "spikeclip-paper": {"image": _SPIKINGFORMER, "text": {**_TEXT, "width": 8, "mlp_ratio": 2}},
    "spikeclip-base": {"image": _SPIKINGFORMER, "text": _TRANSFORMER},
    "spikeclip-tiny": {"image": {"widths": [8, 16], "depth": 1, "num_heads": 4}, "text": _TRANSFORMER},
    "spikeclip-lite0": {
        "image_size": 32,
        "image": {"widths": [8, 8, 8, 8, 12, 12, 16, 16, 32], "repeats": [1, 2, 1, 1, 2, 1, 1]},
        "text": {**_TRANSFORMER, "context_length": 77},
    },
}


@pytest.fixture(scope="session")
def shared():
    """The folder of the real data sets, where this checkout has them beside it."""
    if not SHARED.is_dir():
        pytest.skip(f"real data sets are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def small():
    """Build a preset with small widths and weights that make every layer spike, in float64.

    In float64 rounding does not push a membrane over its threshold, so equal means equal.
    """

    def small(preset, **changes):
        torch.manual_seed(0)
        settings = {"embed_dim": 16, **_SMALL[preset]}
        for key, value in changes.items():
            settings[key] = {**settings[key], **value} if key in ("image", "text") else value
        model = create_model(preset, **settings).double().eval()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, BatchNorm):
                    module.weight.uniform_(1, 2)
                    module.bias.normal_(0.3, 0.5)
                    module.running_mean.normal_(0, 0.2)
                    module.running_var.uniform_(0.5, 1.5)
                elif isinstance(module, nn.Linear):
                    module.weight.mul_(3)
                elif isinstance(module, SeparableConv):
                    module.conv.weight.mul_(4)
                elif isinstance(module, Neuron) and module.range_C is not None:
                    module.range_C.uniform_(1, 3)
        return model

    return small


@pytest.fixture(scope="session")
def pictures():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="session")
def tokens():
    """Three texts of 8, 3 and 5 tokens, the end included; the end token fills the rest."""
    tokens = torch.randint(0, EOS, (3, 8), generator=torch.Generator().manual_seed(2))
    for row, length in zip(tokens, (8, 3, 5), strict=True):
        row[length - 1 :] = EOS
    return tokens
