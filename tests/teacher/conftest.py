"""Random models in folders."""

import pytest
from small_models import save_bert, save_dual


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
