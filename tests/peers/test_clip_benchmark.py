"""Our models on CLIP_benchmark's code path give the numbers that ours gives.

Its model loader imports open_clip, which needs torchvision and has no part in this: a stand-in takes its place where it
is not installed. The metrics, the zero-shot classifier and the registry are CLIP_benchmark's own.
"""

import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from spikeclip.config import ImageFormat, model_config
from spikeclip.data import Tokenizer, load_pictures
from spikeclip.encode.student import Student
from spikeclip.errors import InputError
from spikeclip.evaluate import clip_benchmark as ours
from spikeclip.evaluate import evaluate_model
from spikeclip.model import SpikeCLIP

HOW = "pip install --no-deps clip_benchmark; pip install scikit-learn"
pytest.importorskip("sklearn", reason=f"scikit-learn is not installed: {HOW}")
pytest.importorskip("clip_benchmark", reason=f"CLIP_benchmark is not installed: {HOW}")
TEMPLATES = ["a photo of a {c}.", "the {c}"]


class Dataset(torch.utils.data.Dataset):
    """Pictures of a split as CLIP_benchmark reads them, and their labels or captions."""

    def __init__(self, pictures, targets, transform):
        self.pictures, self.targets, self.transform, self.classes = (
            pictures,
            targets,
            transform,
            pictures.classnames,
        )

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, place):
        return self.transform(Image.fromarray(self.pictures.images[place])), self.targets[place]


@pytest.fixture(scope="module")
def pictures():
    return load_pictures("shapes", "test", ImageFormat(32), limit=60)


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tokenizer = Tokenizer.train([text for texts in pictures.captions for text in texts], 300)
    text = {
        "vocab_size": tokenizer.vocab_size,
        "eos_id": tokenizer.eos_id,
        "width": 16,
        "depth": 1,
        "num_heads": 2,
    }
    torch.manual_seed(0)
    config = model_config("spikeclip-tiny", embed_dim=16, image={"widths": [8, 16]}, text=text, range=1.0)
    SpikeCLIP(config, tokenizer).save_pretrained(folder / "model")
    return str(folder)


@pytest.fixture
def loaded(folder, monkeypatch):
    """The model as CLIP_benchmark loads it once ours are registered: model, transform and tokenizer."""
    if find_spec("open_clip") is None:
        monkeypatch.setitem(sys.modules, "open_clip", ModuleType("open_clip"))
    ours.register()
    from clip_benchmark.models import MODEL_TYPES, load_clip

    assert MODEL_TYPES.count("spikeclip") == 1
    return load_clip("spikeclip", "spikeclip", folder, cache_dir=None, device="cpu")


def test_classification(loaded, pictures, folder, monkeypatch):
    from clip_benchmark.metrics import zeroshot_classification

    # Its accuracy() makes a number of an array with one element, which NumPy refuses since 2.4.
    monkeypatch.setattr(zeroshot_classification, "float", lambda x: np.asarray(x).item(), raising=False)
    model, transform, tokenizer = loaded
    batches = torch.utils.data.DataLoader(Dataset(pictures, pictures.labels, transform), batch_size=16)
    theirs = zeroshot_classification.evaluate(
        model, batches, tokenizer, pictures.classnames, TEMPLATES, "cpu", amp=False
    )
    record = evaluate_model(Student(model), pictures, templates=TEMPLATES, pretrained=folder)
    assert record["metrics"].keys() == theirs.keys()
    assert record["metrics"] == pytest.approx(theirs)
    assert record["metrics"]["acc5"] > 0


def test_retrieval(loaded, pictures):
    from clip_benchmark.metrics import zeroshot_retrieval

    model, transform, tokenizer = loaded

    def together(rows):
        return torch.stack([picture for picture, _ in rows]), [texts for _, texts in rows]

    dataset = Dataset(pictures, pictures.captions, transform)
    batches = torch.utils.data.DataLoader(dataset, batch_size=16, collate_fn=together)
    theirs = zeroshot_retrieval.evaluate(
        model, batches, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10]
    )
    record = evaluate_model(Student(model), pictures, task="zeroshot_retrieval")
    assert record["metrics"] == pytest.approx(theirs)


def test_what_is_no_model(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        ours.load(pretrained=str(tmp_path / "none"))
