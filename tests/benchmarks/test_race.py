import json

import numpy as np
import pytest

from benchmarks.contestants import Job
from benchmarks.machine import Noise
from benchmarks.race import race

BATCH = 4


@pytest.fixture
def job(network):
    folder, _, _ = network("relu")
    return Job("ANN, ONNX Runtime fp32", str(folder), BATCH, threads=1)


def test_a_race_measures_who_can_run_and_says_who_cannot(job, tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "spikingjelly").mkdir()
    (tmp_path / "spikingjelly" / "__init__.py").write_text("raise ImportError('not here')")
    jobs = {
        "runs": job,
        "lacks a package": Job("SpikingJelly", job.folder, BATCH, 1, packages=str(tmp_path)),
        "has no export": Job("ANN, ONNX Runtime fp32", job.folder, batch=3, threads=1),
        "breaks": Job("nobody", job.folder, BATCH, threads=1),
    }
    results = race(jobs, Noise(1), repeats=3, seconds=0.01)
    runs = results["runs"]
    assert runs.status == "ready"
    assert len(runs.seconds) == 3
    assert runs.peak_mib > 10
    assert np.load(runs.embeddings).shape == (len(np.load(f"{job.folder}/pictures.npy")), 32)
    assert runs.record()["images_per_second"] == pytest.approx(BATCH / runs.median)
    assert json.dumps(runs.record())
    assert results["lacks a package"].status == "unavailable"
    assert results["has no export"].status == "unavailable"
    assert results["breaks"].status == "failed"
    assert results["breaks"].median is None
