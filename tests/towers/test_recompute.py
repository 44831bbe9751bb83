"""A tower that recomputes its activations is the same tower with less memory."""

import pytest
import torch

from spikeclip import create_model
from spikeclip.neurons import record
from spikeclip.towers.recompute import keep_activations

TEXT = {"vocab_size": 8, "eos_id": 7, "width": 16, "depth": 1, "num_heads": 2, "context_length": 6}
IMAGE = {"widths": [4, 8, 8, 16, 16], "depth": 1, "num_heads": 2}


def spiking_model(T, neuron="lif"):
    torch.manual_seed(0)
    return create_model("spikeclip-base", neuron=neuron, T=T, text=TEXT, image=IMAGE).train()


def step(model):
    """One forward and backward through both towers: outputs, and what of each parameter and statistic is left."""
    random = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, 32, 32, generator=random)
    tokens = torch.tensor([[1, 2, 7, 0, 0, 0], [3, 3, 3, 2, 1, 7], [2, 7, 0, 0, 0, 0]])
    with record(model) as rates:
        embeddings = model.encode_image(images), model.encode_text(tokens)
    loss = sum((y * torch.randn(y.shape, generator=random)).sum() for y in embeddings)
    (loss + torch.stack(list(rates.values())).sum()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return [y.detach() for y in embeddings], gradients, dict(model.named_buffers())


@pytest.mark.parametrize("neuron", ["lif", "ilif"])
def test_gradients_and_statistics_stay_as_they_are(neuron):
    recomputed, kept = (spiking_model(3, neuron) for _ in range(2))
    results = [step(recomputed)]
    with keep_activations():
        results.append(step(kept))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert any((gradient != 0).any() for gradient in results[0][1].values())


def kept_elements(model):
    sizes = {}

    def pack(y):
        sizes[y.untyped_storage().data_ptr()] = y.untyped_storage().nbytes()
        kept.append(y)  # so that no storage is used twice
        return y

    kept = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda y: y):
        y_BD = model.image(torch.randn(3, 3, 32, 32))
    assert y_BD.requires_grad
    return sum(sizes.values())


def test_less_is_kept_where_there_are_time_steps():
    for T, most in ((4, 0.6), (1, 1.0)):
        ours = kept_elements(spiking_model(T))
        with keep_activations():
            assert ours <= most * kept_elements(spiking_model(T))
