import pytest
import torch

from benchmarks.plain import PlainTower
from benchmarks.prepare import export_twin, normalized, write_network
from spikeclip import create_model
from spikeclip.config import ImageFormat
from spikeclip.data import load_pictures
from spikeclip.towers.norm import BatchNorm

BATCH = 4
_SMALL = {
    "spikeclip-base": {"image": {"widths": [8, 16, 16, 32, 32], "depth": 1, "num_heads": 4, "mlp_ratio": 2}},
    "spikeclip-tiny": {"image": {"widths": [16, 32, 32]}},
}
_TEXT = {"vocab_size": 60, "eos_id": 59, "width": 16, "depth": 1, "num_heads": 2}


@pytest.fixture(scope="session", params=_SMALL)
def network(request, tmp_path_factory):
    """Write a small network of one neuron, with BatchNorm statistics: folder, tower and pictures."""
    images_NHWC = load_pictures("shapes", "test", ImageFormat(32), limit=2 * BATCH).images
    made = {}

    def network(neuron):
        if neuron not in made:
            torch.manual_seed(0)
            settings = {
                **_SMALL[request.param],
                "text": _TEXT,
                "embed_dim": 32,
                "range": 1.0,
                "v_threshold": 0.5,
            }
            model = create_model(request.param, neuron=neuron, **settings)
            pictures_NHWC = normalized(model.config.image, images_NHWC)
            for module in model.image.modules():
                if isinstance(module, BatchNorm):
                    module.momentum = 1.0
            with torch.no_grad():
                model.image.train()(torch.from_numpy(pictures_NHWC).permute(0, 3, 1, 2))
            model.eval()
            folder = tmp_path_factory.mktemp(f"{request.param}-{neuron}")
            write_network(model, pictures_NHWC, folder)
            if neuron == "relu":
                export_twin(PlainTower(model.image).eval(), pictures_NHWC, BATCH, folder)
            made[neuron] = folder, model.image, pictures_NHWC
        return made[neuron]

    return network
