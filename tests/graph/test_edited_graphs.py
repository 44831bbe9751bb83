"""A graph from a stranger is refused in one line or computes what the specification says; nothing else happens."""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba (extra runtime) is not installed")

from spikeclip.graph import Graph, ops, save_graph
from spikeclip.graph.lower import lower

SEED, EDITS = 0, int(os.environ.get("SPIKECLIP_EDITS", "2000"))
TOWERS = {
    "tiny-lif": ("spikeclip-tiny", {"neuron": "lif", "T": 2}),
    "tiny-plif": ("spikeclip-tiny", {"neuron": "plif", "T": 3, "v_reset": None}),
    "tiny-ilif": ("spikeclip-tiny", {"neuron": "ilif", "T": 1, "D": 4}),
    "tiny-frames": ("spikeclip-tiny", {"neuron": "ilif", "T": 2, "D": 2, "image": {"event_frames": 2}}),
    "base-ilif": ("spikeclip-base", {"neuron": "ilif", "T": 2, "D": 3}),
    "base-quant": ("spikeclip-base", {"neuron": "quant_relu", "T": 1}),
    "base-relu": ("spikeclip-base", {"neuron": "relu", "T": 1}),
    "paper-lif": ("spikeclip-paper", {"neuron": "lif", "T": 4}),
}


def exact(graph):
    """Take small pictures, and round weights to multiples of 1/64, whose sums are exact."""
    rounded = []
    for op in graph.ops:
        arrays = {f.name: getattr(op, f.name) for f in fields(op)}
        arrays = {
            k: np.round(v * 64) / np.float32(64) for k, v in arrays.items() if isinstance(v, np.ndarray)
        }
        if isinstance(op, ops.Image):
            arrays["shape"] = (16, 16, op.shape[-1])
        rounded.append(replace(op, **arrays))
    return Graph(rounded)


@pytest.fixture(scope="module")
def graphs(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    (folder / "edited").mkdir()
    for name, (preset, changes) in TOWERS.items():
        model = small(preset, **changes)
        save_graph(exact(lower(model.image, model.config.image)), folder / f"{name}-image")
        save_graph(exact(lower(model.text)), folder / f"{name}-text")
    return folder


def test_random_edits_are_refused_or_computed_as_the_specification_says(graphs):
    script = Path(__file__).with_name("edited_graphs.py")
    done = subprocess.run(
        [sys.executable, script, str(graphs), str(SEED), str(EDITS)], capture_output=True, text=True
    )
    *tried, last = done.stdout.splitlines()
    assert done.returncode == 0, f"{last}\n{done.stderr[-2000:]}"
    found = json.loads(last)
    assert len(tried) == EDITS
    assert found["outcomes"]["refused"] > EDITS / 4
    assert found["outcomes"]["answered"] > EDITS / 20
    assert found["peak_mb"] < 1000
