"""Rates from one pass are those of the whole set, whatever the batches and whoever runs them."""

import numpy as np
import pytest

from spikeclip.energy.firing import all_firing, measure_firing, spiking_run, text_batches
from spikeclip.errors import InputError
from spikeclip.graph import Graph, execute, ops
from spikeclip.graph.inputs import picture_batches


def spikes_of(graph, inputs):
    found = {}

    def watch(op, value):
        if isinstance(op, ops.Neuron):
            found[op.name] = value.reshape(*value.shape[:2], -1)

    execute(graph, inputs, watch)
    return found


@pytest.mark.parametrize("without_numba", [False, True])
def test_rates_intervals_and_embeddings(graphs, images, without_numba, monkeypatch):
    if without_numba:
        monkeypatch.setattr("spikeclip.energy.firing.find_spec", lambda name: None)
    graph = graphs.image
    (whole,) = picture_batches(graph, images, 100)
    expected = spikes_of(graph, whole)
    rows, (group,) = measure_firing(spiking_run(graph), picture_batches(graph, images, 7))
    np.testing.assert_allclose(rows, execute(graph, whole), atol=1e-4)
    assert group.inputs == 60
    assert group.firing.keys() == expected.keys()
    for name, level_TBK in expected.items():
        firing, rate_TB = group.firing[name], level_TBK.mean(2)
        # The engine's fp32 sums have another order; a few currents lie that near to a threshold.
        np.testing.assert_allclose(firing.rate_T, rate_TB.mean(1), atol=2e-4)
        np.testing.assert_allclose(firing.interval_T, 1.96 * rate_TB.std(1, ddof=1) / 60**0.5, atol=2e-4)
        assert firing.density == pytest.approx((level_TBK > 0).mean(), abs=2e-4)
        assert group.spikes[name] == pytest.approx(level_TBK.sum() / 60, rel=2e-3)
    spikes_BL = np.stack([level_TBK.sum((0, 2)) for level_TBK in expected.values()], 1)
    np.testing.assert_allclose(group.scatter_LL, 59 * np.cov(spikes_BL.T), rtol=0.05, atol=50)


def test_texts_are_run_without_their_padding(graphs, tokenizer):
    texts = ["a red star", "a photo of a blue ring, a blue ring", "a red star"]
    tokens = tokenizer.encode(texts, 77)
    batches = list(text_batches(graphs.text, tokens))
    assert sorted(np.concatenate([places for _, places in batches]).tolist()) == [0, 1, 2]
    # One end token in each, and nothing after it.
    assert all((ids == tokenizer.eos_id).sum() == len(ids) for ids, _ in batches)
    _, groups = measure_firing(spiking_run(graphs.text), [ids for ids, _ in batches])
    assert [group.inputs for group in groups] == [2, 1]
    together = all_firing(groups)
    for name, firing in together.items():
        assert firing.inputs == 3
        assert firing.neurons == sum(g.firing[name].neurons for g in groups)
        per_text = [
            float(s.mean()) for ids, _ in batches for s in spikes_of(graphs.text, ids)[name].swapaxes(0, 1)
        ]
        assert firing.rates_T.mean() / 3 == pytest.approx(np.mean(per_text), abs=1e-3)


def test_one_input_has_no_interval(graphs, images):
    _, (group,) = measure_firing(spiking_run(graphs.image), picture_batches(graphs.image, images[:1]))
    assert all(np.isnan(firing.interval_T).all() for firing in group.firing.values())


def test_what_cannot_be_measured(graphs):
    with pytest.raises(InputError, match="no inputs"):
        measure_firing(spiking_run(graphs.image), [])
    relu = Graph([ops.Image("image"), ops.Neuron("act", ("image",), "relu")])
    with pytest.raises(InputError, match="act is a ReLU"):
        spiking_run(relu)
