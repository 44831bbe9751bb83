import numpy as np
import pytest

from spikeclip.config import ImageFormat
from spikeclip.data import Tokenizer, load_pictures
from spikeclip.energy import load_conventions
from spikeclip.energy.account import account
from spikeclip.graph.lower import lower
from spikeclip.graph.saved import SavedGraphs


@pytest.fixture(scope="session")
def shapes():
    return load_pictures("shapes", "test", ImageFormat(32), limit=60)


@pytest.fixture(scope="session")
def tokenizer(shapes):
    return Tokenizer.train([text for texts in shapes.captions for text in texts], 300)


@pytest.fixture(scope="session")
def graphs(small, tokenizer):
    """Both towers of a small model whose layers all spike: I-LIF with D = 3 over 2 steps, one attention block."""
    text = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id}
    model = small("spikeclip-tiny", T=2, D=3, text=text).float()
    return SavedGraphs(lower(model.image, model.config.image), lower(model.text), 10.0)


@pytest.fixture(scope="session")
def accounted(graphs, tokenizer, shapes):
    return account(graphs, tokenizer, shapes, load_conventions())


@pytest.fixture(scope="session")
def images(shapes):
    return np.array(shapes.images)
