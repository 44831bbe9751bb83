import math

import numpy as np
import pytest
import torch

from spikeclip.data.transforms import normalize
from spikeclip.encode.student import Student
from spikeclip.errors import InputError
from spikeclip.evaluate import mean_rates
from spikeclip.neurons import mean_spikes, record


@pytest.mark.parametrize(("neuron", "T"), [("ilif", 1), ("ilif", 3), ("lif", 2), ("quant_relu", 1)])
def test_rates_of_batches_are_those_of_the_whole(make_model, pictures, neuron, T):
    model = make_model(neuron=neuron, T=T)
    settings = model.config.image
    with torch.no_grad(), record(model, mean_spikes) as expected:
        model.encode_image(normalize(torch.from_numpy(pictures.images[:]), settings.mean, settings.std))
    for batch_size in (7, 60):  # 60 = 8 x 7 + 4: the last batch is smaller
        found = mean_rates(Student(model), pictures, batch_size)
        assert found["rates"].keys() == expected.keys()
        for name, rate in expected.items():
            assert found["rates"][name] == pytest.approx(rate.item(), rel=1e-4, abs=1e-7)
    assert any(rate > 0 for rate in found["rates"].values())


def test_the_mean_counts_neurons_not_layers(model, pictures):
    settings = model.config.image
    images = normalize(torch.from_numpy(pictures.images[:]), settings.mean, settings.std)
    with (
        torch.no_grad(),
        record(
            model, lambda neuron, s: torch.stack([s.sum() * 4, (s > 0).sum(), s[0].numel() * s.new_ones(())])
        ) as sums,
    ):
        model.encode_image(images)
    spikes, active, places = torch.stack(list(sums.values())).double().sum(0).tolist()
    found = mean_rates(Student(model), pictures, batch_size=25)
    assert found["mean_rate"] == pytest.approx(spikes / places, rel=1e-4)
    assert found["mean_density"] == pytest.approx(active / places, rel=1e-4)


def test_lif_rates_are_densities(make_model, pictures):
    found = mean_rates(Student(make_model(neuron="lif", T=2)), pictures)
    assert found["rates"] == pytest.approx(found["densities"])


def test_a_relu_has_densities_but_no_spikes(make_model, pictures):
    found = mean_rates(Student(make_model(neuron="relu")), pictures)
    assert math.isnan(found["mean_rate"])
    assert all(math.isnan(rate) for rate in found["rates"].values())
    assert 0 < found["mean_density"] < 1


def test_no_pictures(model):
    with pytest.raises(InputError, match="no pictures"):
        mean_rates(Student(model), np.empty((0, 32, 32, 3), np.uint8))
