"""A model made from its graphs alone is the model."""

import numpy as np
import pytest
import torch

from spikeclip import create_model
from spikeclip.errors import InputError
from spikeclip.graph.lower import lower
from spikeclip.graph.rebuild import rebuild


def rebuilt(small, **settings):
    model, empty = (small("spikeclip-lite0", **settings) for _ in range(2))
    for parameter in empty.parameters():
        torch.nn.init.normal_(parameter)
    rebuild(empty.image, lower(model.image, model.config.image))
    rebuild(empty.text, lower(model.text))
    return model, empty


def test_a_rebuilt_model_has_the_same_graphs(small):
    model, made = rebuilt(small, neuron="ilif", D=5)
    for tower, config in (("image", (model.config.image,)), ("text", ())):
        before, after = (lower(getattr(m, tower), *config) for m in (model, made))
        for first, second in zip(before.ops, after.ops, strict=True):
            for name, value in vars(first).items():
                if isinstance(value, np.ndarray):
                    np.testing.assert_allclose(getattr(second, name), value, rtol=1e-5, atol=1e-6)
                else:
                    assert getattr(second, name) == value


@torch.no_grad()
def test_a_rebuilt_model_answers_as_the_first(small, pictures, tokens):
    model, made = rebuilt(small, neuron="relu")  # without levels, whose edges float32 may pass
    for encode, inputs in (("encode_image", pictures), ("encode_text", tokens)):
        expected, found = getattr(model, encode)(inputs), getattr(made, encode)(inputs)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_graph_of_another_tower(small):
    model, wider = small("spikeclip-lite0"), small("spikeclip-lite0", embed_dim=20)
    with pytest.raises(InputError, match=r"readout\.linear does not fit"):
        rebuild(wider.image, lower(model.image, model.config.image))
    other = create_model("spikeclip-tiny")
    with pytest.raises(InputError, match="only a separable image tower"):
        rebuild(other.image, lower(model.image, model.config.image))
