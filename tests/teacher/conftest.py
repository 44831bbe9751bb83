"""Random models in folders, and real data where this checkout has it beside it."""

from pathlib import Path

import pytest
from small_models import save_bert, save_dual

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def shared():
    if not SHARED.is_dir():
        pytest.skip(f"real data sets are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session", params=["clip", "siglip"])
def dual(request, tmp_path_factory):
    """A random CLIP or SigLIP: its kind, folder, model and processor."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, *save_dual(request.param, folder)


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """A random BERT: its folder and the model."""
    folder = tmp_path_factory.mktemp("bert")
    return folder, save_bert(folder)
