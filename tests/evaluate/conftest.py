import pytest
import torch

from spikeclip.config import ImageFormat, model_config
from spikeclip.data import Pictures, Tokenizer, load_pictures
from spikeclip.encode.student import Student
from spikeclip.model import SpikeCLIP


@pytest.fixture(scope="session")
def pictures() -> Pictures:
    return load_pictures("shapes", "test", ImageFormat(32), limit=60)


@pytest.fixture(scope="session")
def tokenizer(pictures) -> Tokenizer:
    return Tokenizer.train([text for texts in pictures.captions for text in texts], 300)


@pytest.fixture(scope="session")
def make_model(tokenizer):
    def make(**changes) -> SpikeCLIP:
        torch.manual_seed(0)
        text = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id}
        text |= {"width": 16, "depth": 1, "num_heads": 2}
        settings = {"embed_dim": 16, "image": {"widths": [8, 16]}, "text": text, "range": 1.0, **changes}
        return SpikeCLIP(model_config("spikeclip-tiny", **settings), tokenizer).eval()

    return make


@pytest.fixture
def model(make_model) -> SpikeCLIP:
    return make_model()


@pytest.fixture
def encoder(model) -> Student:
    return Student(model)
