import dataclasses
import math
import statistics

import pytest

from spikeclip.energy import counts, joules, ledger, load_conventions
from spikeclip.energy.account import account, merged
from spikeclip.energy.compare import SPIKING, baselines, tower_energy
from spikeclip.energy.firing import measure_firing, spiking_run, text_batches
from spikeclip.errors import InputError
from spikeclip.graph import Graph, ops
from spikeclip.graph.inputs import picture_batches
from spikeclip.graph.lower import lower


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
    counted = counts(graph, groups[0].shape)
    checked = 0
    for network in SPIKING:
        for level in network.levels:
            for twin in (twin for twin in baselines(graph) if level in twin.levels):
                even, other = (
                    found["break_even"][network.name][level][twin.name],
                    found["joules"][twin.name][level],
                )
                scaled = {n: s * (even or 0) / found["rate"] for n, s in groups[0].spikes.items()}
                cost = joules(ledger(counted, scaled, network, level, conventions))
                assert cost == pytest.approx(other) if even is not None else cost > other
                checked += even is not None
    assert checked


def test_intervals_are_those_of_the_joules_of_every_input(graphs, images, tokenizer):
    """Against a ledger for each input, for pictures and for texts of several lengths."""
    conventions = load_conventions()
    names = [f"a {colour} {shape}" for colour in ("red", "blue") for shape in ("star", "ring", "square")]
    texts = [ids for ids, _ in text_batches(graphs.text, tokenizer.encode(names, 77))]
    assert 1 < len(texts) < len(names)
    for graph, batches in (
        (graphs.image, list(picture_batches(graphs.image, images[:20], 7))),
        (graphs.text, texts),
    ):
        run = spiking_run(graph)
        _, groups = measure_firing(run, batches)
        found = tower_energy(graph, groups, conventions)
        singles = [measure_firing(run, [one[None]])[1][0] for batch in batches for one in batch]
        for network in SPIKING:
            for level in network.levels:
                costs = [
                    joules(ledger(counts(graph, one.shape), one.spikes, network, level, conventions))
                    for one in singles
                ]
                interval = 1.96 * statistics.stdev(costs) / len(costs) ** 0.5
                assert interval > 0
                assert found["intervals"][network.name][level] == pytest.approx(interval, rel=1e-6)
                assert found["joules"][network.name][level] == pytest.approx(statistics.mean(costs))


def test_one_input_has_no_interval(graphs, images):
    _, groups = measure_firing(spiking_run(graphs.image), picture_batches(graphs.image, images[:1]))
    found = tower_energy(graphs.image, groups, load_conventions())
    assert all(math.isnan(value) for by_level in found["intervals"].values() for value in by_level.values())


def test_a_teacher_is_named_and_counted_where_the_conventions_have_one(accounted, graphs, tokenizer, shapes):
    assert not any("teacher" in name for name in accounted["energy"]["total"]["joules"])
    teacher = {"name": "small CLIP", "image_macs": 1000, "text_macs": 60}
    found = account(graphs, tokenizer, shapes, load_conventions(teacher=teacher))["energy"]
    cost = (1000 + 64 / 60 * 60) * 4.6e-12
    assert found["total"]["joules"]["teacher, small CLIP"] == {
        "L0": pytest.approx(cost),
        "L1": pytest.approx(cost),
    }


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
    with pytest.raises(InputError, match="names no classes"):
        account(graphs, tokenizer, dataclasses.replace(shapes, classnames=[]), load_conventions())


def test_a_text_tower_without_neurons_costs_its_products(small, graphs, tokenizer, shapes):
    text = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, "depth": 0}
    bare = graphs._replace(text=lower(small("spikeclip-tiny", T=2, D=3, text=text).float().text))
    found = account(bare, tokenizer, shapes, load_conventions())
    assert found["spikes"]["text_mean_rate"] == 0
    assert found["energy"]["text"]["joules"].keys() == found["energy"]["image"]["joules"].keys()
    assert 0 < found["energy"]["text"]["joules"][SPIKING[0].name]["L1"] < math.inf
