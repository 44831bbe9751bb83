"""What photographs are raced against is what it is said to be, and so are the ratios."""

import numpy as np
import pytest
import torch

from benchmarks.contestants import onnxruntime, openvino
from benchmarks.exported import VisionTransformer, export_graph
from benchmarks.photographs import VIT, compare
from benchmarks.prepare import quantize
from spikeclip.errors import InputError
from spikeclip.graph.lower import lower

BATCH = 4


def test_an_exported_ordinary_network_computes_the_tower(small, tmp_path):
    for package in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    tower = small("spikeclip-lite0", neuron="relu").float()
    graph = lower(tower.image, tower.config.image)
    x_NCHW = np.random.default_rng(0).standard_normal((16, 3, 32, 32)).astype(np.float32)
    export_graph(graph, BATCH, tmp_path / "fp32.onnx")
    quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", x_NCHW, BATCH)
    with torch.no_grad():
        wanted = tower.image(torch.from_numpy(x_NCHW[:BATCH])).numpy()
    exact = onnxruntime(str(tmp_path / "fp32.onnx"), 1)(x_NCHW[:BATCH])
    np.testing.assert_allclose(exact, wanted, atol=1e-4 * np.abs(wanted).max())
    for run in (
        onnxruntime(str(tmp_path / "int8.onnx"), 1),
        openvino(str(tmp_path / "int8.onnx"), 1, "int8"),
    ):
        rounded = run(x_NCHW[:BATCH])
        errors = np.linalg.norm(rounded[:, None] - wanted, axis=2)
        assert (errors.argmin(1) == range(BATCH)).all()  # each picture's own answer is nearest
        assert errors.diagonal().max() < 0.5 * np.linalg.norm(wanted, axis=1).min(), errors


def test_a_spiking_network_is_no_ordinary_one(small, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    tower = small("spikeclip-lite0")
    with pytest.raises(InputError, match="stem_spike: an ordinary network has no such Neuron"):
        export_graph(lower(tower.image, tower.config.image), 1, tmp_path / "spiking.onnx")


def test_the_vit_has_the_size_of_clips():
    transformers = pytest.importorskip("transformers", reason="transformers (extra train) is not installed")
    config = transformers.CLIPVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, patch_size=32,
        image_size=224, projection_dim=512,
    )  # fmt: skip
    with torch.device("meta"):
        clip = transformers.CLIPVisionModelWithProjection(config)
        ours = VisionTransformer(224, patch=32, width=768, depth=12, heads=12, dim=512)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in clip.parameters())
    x = torch.zeros(2, 3, 64, 64)
    assert VisionTransformer(64, patch=32, width=8, depth=1, heads=2, dim=5)(x).shape == (2, 5)


def test_ratios_are_to_the_faster_twin():
    results = {
        "engine int8": {"seconds": [2.0, 3.0, 4.0]},
        "twin, ONNX Runtime int8": {"seconds": [1.0, 9.0, 9.0]},
        "twin, OpenVINO int8": {"seconds": [6.0, 6.0, 6.0]},
        VIT: {"seconds": []},
    }
    engine, faster, _, absent = compare(results)
    assert (engine["least"], engine["fastest_over_twin"], engine["median_over_twin"]) == (2.0, 0.5, 2.0)
    assert faster["fastest_over_twin"] == 1.0
    assert engine["fastest_over_vit"] is None
    assert absent["least"] is None
