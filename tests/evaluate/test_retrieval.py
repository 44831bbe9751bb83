import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeclip.errors import InputError
from spikeclip.evaluate import retrieval, retrieval_metrics


def test_by_hand():
    # Two pictures, three texts. Text 1 describes picture 0 but is nearer to 1; text 2 the other way round.
    images = torch.eye(2)
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
    metrics = retrieval_metrics(images, texts, torch.tensor([0, 0, 1]))
    assert metrics == {
        "image_retrieval_recall@1": pytest.approx(1 / 3),
        "image_retrieval_recall@5": 1.0,
        "image_retrieval_recall@10": 1.0,
        "text_retrieval_recall@1": 0.5,  # picture 1 finds text 1, which is picture 0's
        "text_retrieval_recall@5": 1.0,
        "text_retrieval_recall@10": 1.0,
    }


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 40), st.integers(1, 100))
def test_against_brute_force(seed, images, texts, similarities):
    rng = np.random.default_rng(seed)
    image_ND, text_MD = rng.normal(size=(images, 8)), rng.normal(size=(texts, 8))
    owner_M = rng.integers(images, size=texts)
    before, retrieval._SIMILARITIES = retrieval._SIMILARITIES, similarities  # so that chunks are exercised
    try:
        metrics = retrieval_metrics(torch.from_numpy(image_ND), torch.from_numpy(text_MD), owner_M)
    finally:
        retrieval._SIMILARITIES = before
    similarity_NM = image_ND @ text_MD.T
    for k in (1, 5, 10):
        found = [owner_M[m] in np.argsort(-similarity_NM[:, m])[:k] for m in range(texts)]
        assert metrics[f"image_retrieval_recall@{k}"] == pytest.approx(np.mean(found))
        found = [n in owner_M[np.argsort(-similarity_NM[n])[:k]] for n in range(images)]
        assert metrics[f"text_retrieval_recall@{k}"] == pytest.approx(np.mean(found))


@pytest.mark.parametrize(
    ("texts", "owners", "message"),
    [
        (torch.ones(2, 3), [0, 1], "do not fit"),
        (torch.ones(2, 2), [0], "do not fit"),
        (torch.ones(2, 2), [0, 2], "outside 0 to 1"),
        (torch.ones(0, 2), [], "expected embeddings of texts"),
        (torch.ones(2, 2) / 0, [0, 1], "2 of 2 embeddings of texts are not numbers"),
    ],
)
def test_what_does_not_fit(texts, owners, message):
    with pytest.raises(InputError, match=message):
        retrieval_metrics(torch.eye(2), texts, torch.tensor(owners, dtype=torch.long))
