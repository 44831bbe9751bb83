import dataclasses

import pytest

from spikeclip.energy import LEVELS, counts, joules, ledger, load_conventions
from spikeclip.energy.account import merged
from spikeclip.energy.compare import SPIKING, baselines, tower_energy
from spikeclip.energy.firing import measure_firing, spiking_run, text_batches
from spikeclip.errors import InputError
from spikeclip.graph import Graph, ops
from spikeclip.graph.embed import picture_batches


@pytest.mark.parametrize(
    ("kind", "T", "D", "bits"),
    [("lif", 4, 1, 3), ("ilif", 1, 4, 3), ("ilif", 1, 7, 3), ("ilif", 4, 4, 5), ("lif", 1, 1, 1)],
)
def test_the_quantised_twin_says_as_many_values(kind, T, D, bits):
    graph = Graph([ops.Image("image"), ops.Neuron("spike", ("image",), kind, T=T, D=D)])
    assert baselines(graph)[2].activation_bits == bits


def test_at_the_break_even_rate_both_cost_the_same(graphs, images):
    conventions = load_conventions()
    graph = graphs.image
    _, groups = measure_firing(spiking_run(graph), picture_batches(graph, images))
    found = tower_energy(graph, groups, conventions)
    counted = counts(graph, groups[0].sample)
    checked = 0
    for network in SPIKING:
        for level in LEVELS:
            for twin in baselines(graph):
                even, other = (
                    found["break_even"][network.name][level][twin.name],
                    found["joules"][twin.name][level],
                )
                scaled = {n: s * (even or 0) / found["rate"] for n, s in groups[0].spikes.items()}
                cost = joules(ledger(counted, scaled, network, level, conventions))
                assert cost == pytest.approx(other) if even is not None else cost > other
                checked += even is not None
    assert checked


def test_parts_add_up(accounted):
    for tower in ("image", "text"):
        found = accounted["energy"][tower]
        for name, levels in found["joules"].items():
            for level, total in levels.items():
                assert sum(found["kinds"][name][level].values()) == pytest.approx(total)
                assert sum(found["layers"][name][level].values()) == pytest.approx(total)
        for name, levels in found["ledger"].items():
            for level, rows in levels.items():
                assert sum(row["joules"] for row in rows) == pytest.approx(found["joules"][name][level])


def test_levels_only_add(accounted):
    for levels in accounted["energy"]["image"]["joules"].values():
        assert levels["L1"] < levels["L2 tiled"] < levels["L2 no reuse"]


def test_texts_of_two_lengths_cost_their_mean(graphs, tokenizer):
    conventions, texts = load_conventions(), ["a red star", "a photo of a blue ring", "a red star"]
    batches = [ids for ids, _ in text_batches(graphs.text, tokenizer.encode(texts, 77))]
    _, groups = measure_firing(spiking_run(graphs.text), batches)
    short, long = (tower_energy(graphs.text, [group], conventions) for group in groups)
    both = tower_energy(graphs.text, groups, conventions)
    assert both["macs"] == pytest.approx((2 * short["macs"] + long["macs"]) / 3)
    for name, levels in both["joules"].items():
        for level, joule in levels.items():
            mean = (2 * short["joules"][name][level] + long["joules"][name][level]) / 3
            assert joule == pytest.approx(mean)


@pytest.mark.parametrize(("text", "share"), [("amortised", 64 / 60), ("per_query", 1), ("none", 0)])
def test_the_share_of_the_text_tower(graphs, tokenizer, shapes, text, share):
    from spikeclip.energy.account import account

    found = account(graphs, tokenizer, shapes, load_conventions(text=text))["energy"]
    assert found["total"]["share"] == pytest.approx(share)
    for name in found["image"]["joules"]:
        expected = found["image"]["joules"][name]["L1"] + share * found["text"]["joules"][name]["L1"]
        assert found["total"]["joules"][name]["L1"] == pytest.approx(expected)


def test_merged_into_a_record_of_the_same_pictures(accounted):
    record = {"metrics": {"acc1": 0.5}, "spikes": None, "provenance": {"data": accounted["data"], "seed": 3}}
    found = merged(record, accounted)
    assert found["metrics"] == {"acc1": 0.5}
    assert found["provenance"] == {**record["provenance"], "energy_convention": "horowitz-45nm"}
    assert found["energy"]["total"] == accounted["energy"]["total"]
    assert "ledger" not in found["energy"]["image"]
    assert found["spikes"]["rates"].keys() == accounted["spikes"]["rates"].keys()
    assert merged({"seconds": 1.0, "test": record}, accounted) == {"seconds": 1.0, "test": found}
    other = {**record, "provenance": {"data": {"source": "cifar10", "split": "test", "pictures": 9}}}
    with pytest.raises(InputError, match="record is of cifar10 test, 9 pictures"):
        merged(other, accounted)


def test_pictures_without_names(graphs, tokenizer, shapes):
    from spikeclip.energy.account import account

    with pytest.raises(InputError, match="names no classes"):
        account(graphs, tokenizer, dataclasses.replace(shapes, classnames=[]), load_conventions())
