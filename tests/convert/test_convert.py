"""From an ordinary network to a spiking tower: what it says, what it reads, and what a kill costs."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from spikeclip.convert.features import agreement, normalized, ordinary_features, set_readout
from spikeclip.convert.folder import check_out, convert_into
from spikeclip.convert.mirror import mirror
from spikeclip.convert.parts import parts_of
from spikeclip.convert.ranges import best_range
from spikeclip.convert.run import convert, spiking_config
from spikeclip.convert.saved import load_conversion
from spikeclip.convert.settings import ConvertSettings
from spikeclip.errors import InputError, Interrupted
from spikeclip.graph import execute
from spikeclip.graph.lower import lower
from spikeclip.graph.verify import verify
from spikeclip.neurons import ILIF, record

SHORT = ConvertSettings(D=8, steps=10, distil_steps=3, batch_size=8)


@pytest.fixture(scope="module")
def done(network, samples):
    return convert(network, *samples, SHORT)


def test_the_best_range_is_the_best_of_a_finer_search():
    x = torch.randn(1, 4, 2, 16, 16, generator=torch.Generator().manual_seed(0)).mul(2)
    found = best_range(x, 8, signed=False, ceiling=6.0)
    for channel in range(2):
        wanted = x[:, :, channel].clamp(0, 6)

        def error(r, wanted=wanted):
            return float(((wanted * 8 / r).round().clamp(0, 8) * r / 8 - wanted).square().mean())

        least = min(error(r) for r in np.linspace(0.05, 6, 600))
        assert error(float(found[channel])) < 1.1 * least


def test_a_channel_that_never_fires_gets_a_usual_range():
    x = torch.ones(1, 2, 3, 4, 4) * torch.tensor([2.0, -1.0, 3.0])[:, None, None]
    assert best_range(x, 4, signed=False).tolist() == pytest.approx([2.0, 2.0, 3.0])


def test_signed_ranges_see_both_signs():
    x = torch.tensor([-4.0, 1.0]).expand(1, 1, 1, 1, 2)
    assert best_range(x, 4, signed=True).item() == pytest.approx(4.0)
    assert best_range(x, 4, signed=False).item() == pytest.approx(1.0)


def test_every_part_comes_nearer_to_the_ordinary_one(network, samples, done):
    once = dataclasses.replace(SHORT, passes=1, distil_steps=0)
    errors = convert(network, samples[0], samples[0], once).record["errors"]
    assert [entry["part"] for entry in errors][::8] == ["stem and block 0", "head"]
    assert sum(entry["fitted"] for entry in errors) < 0.95 * sum(entry["ranges"] for entry in errors)
    steps = list(done.record["agreement"])
    assert steps == ["ranges", "parts", "whole network", "mirroring"]


def test_the_whole_networks_steps_bring_the_answers_nearer(network, samples):
    settings = dataclasses.replace(SHORT, D=2, steps=0, distil_steps=40, distil_rate=0.01)
    found = convert(network, samples[0], samples[0], settings).record["agreement"]
    assert found["whole network"]["cosine"] > found["parts"]["cosine"]
    assert found["parts"] == found["ranges"]


def test_more_spikes_than_wanted_are_penalised(network, samples):
    settings = dataclasses.replace(SHORT, steps=0, distil_steps=30, distil_rate=0.01)
    free = convert(network, *samples, settings)
    few = convert(network, *samples, dataclasses.replace(settings, mean_spikes=0.5))
    rates = [each.record["agreement"]["whole network"]["mean_spikes"] for each in (free, few)]
    assert rates[1] < 0.9 * rates[0]


def test_more_levels_are_nearer_to_the_ordinary_network(network, samples):
    cosines = []
    for D in (2, 4, 8, 16):
        settings = ConvertSettings(D=D, steps=0, distil_steps=0)
        cosines.append(convert(network, *samples, settings).record["agreement"]["ranges"]["cosine"])
    assert cosines == sorted(cosines)
    assert cosines[-1] > 0.95


def test_the_tower_is_lowered_and_verified(done, samples):
    x = normalized(samples[1].images, 4, done.config.image)[0]
    graph = lower(done.tower, done.config.image)
    with torch.no_grad():
        spiking = done.tower(x)
    pixels = x.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(execute(graph, pixels), spiking, atol=1e-3)
    operands, substeps = verify(graph, pixels)
    assert {o.op for o in operands if o.kind == "real"} == {"stem", "readout.linear"}
    assert all(operand.sound for operand in operands)
    assert substeps is not None


def test_mirrored_channels_fire_less_and_change_no_answer(network, samples):
    found = convert(network, *samples, ConvertSettings(D=6, steps=0, distil_steps=0)).tower
    with torch.no_grad():
        for part in parts_of(found):  # turned once more by hand: every mirrored place is now busy or quiet
            for neuron, (driving, reading) in part.mirrors.items():
                part.synapses[driving].bn.bias += 0.7 * part.neurons[neuron].range_C
                assert part.synapses[reading].conv.kernel_size == (1, 1)
    tower = copy.deepcopy(found).double()
    x = normalized(samples[0].images, 32, network.config.image)[0].double()
    with torch.no_grad():
        with record(tower) as before:
            wanted = tower(x)
        assert mirror(parts_of(tower), x[None]) > 10
        with record(tower) as after:
            torch.testing.assert_close(tower(x), wanted, rtol=0, atol=1e-9)
    for name in before:
        if name.endswith("filter_spike"):
            assert after[name] < before[name]
        else:
            torch.testing.assert_close(after[name], before[name])


def test_levels_of_the_places(network, samples):
    settings = ConvertSettings(
        D=4, first_D=(16, 12), places={"*.spike": 6, "spike": 6}, steps=0, distil_steps=0
    )
    found = convert(network, *samples, settings)
    neurons = [m for m in found.tower.modules() if isinstance(m, ILIF)]
    assert [n.D for n in neurons[:2]] == [16, 12]
    assert {n.D for n in neurons[2:] if n.signed} == {6}
    assert {n.D for n in neurons[2:] if not n.signed} == {4}
    finer = dataclasses.replace(network, finer=("head_spike",))
    assert spiking_config(finer, ConvertSettings(D=4)).neuron.first_D == (4,) * 24 + (8,)
    assert spiking_config(finer, ConvertSettings(D=4, finer=False)).neuron.first_D == ()
    with pytest.raises(InputError, match="first_D has 60 levels, and the tower 25 neurons"):
        convert(network, *samples, ConvertSettings(first_D=(8,) * 60))
    with pytest.raises(
        InputError, match=r"no neuron is called 'stem'; they are stem_spike, blocks.0.filter_spike, "
    ):
        convert(network, *samples, ConvertSettings(places={"stem": 8}))


def test_the_twin_is_the_ordinary_network_itself(network, samples):
    twin = convert(network, *samples, ConvertSettings(neuron="relu"))
    assert twin.tower is network.tower
    assert twin.record["agreement"]["ordinary"]["top1"] == 1


def test_another_readout_reads_ordinary_features(done, samples):
    x = normalized(samples[1].images, 4, done.config.image)[0]
    found = copy.deepcopy(done.tower)
    weight_EC, bias_E = torch.randn(6, 32), torch.randn(6)
    set_readout(found, weight_EC, bias_E)
    with torch.no_grad():
        torch.testing.assert_close(
            found(x), ordinary_features(found, x) @ weight_EC.T + bias_E, rtol=1e-4, atol=1e-3
        )


@pytest.mark.parametrize("saves", [1, 4, 11, 13])
def test_a_kill_costs_nothing(saves, done, network, samples, tmp_path, monkeypatch):
    """After the save of the ranges, of a part, and of the parts: what goes on ends as if nothing had been."""
    from spikeclip.convert.checkpoint import Checkpoint

    save = Checkpoint.save
    count = 0

    def stops(self, state):
        nonlocal count
        save(self, state)
        count += 1
        if count == saves:
            raise KeyboardInterrupt

    out = tmp_path / "tower"
    monkeypatch.setattr(Checkpoint, "save", stops)
    with pytest.raises(Interrupted, match="the same command goes on from"):
        convert_into(out, network, *samples, SHORT)
    monkeypatch.setattr(Checkpoint, "save", save)
    other = dataclasses.replace(SHORT, D=4)
    with pytest.raises(InputError, match="of a conversion with another network, other pictures or settings"):
        convert_into(out, network, *samples, other)
    after = convert_into(out, network, *samples, SHORT)
    assert after.record == done.record
    for name, value in done.tower.state_dict().items():
        assert torch.equal(after.tower.state_dict()[name], value), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tower"]


def test_a_kill_in_the_steps_on_the_whole_network_costs_nothing(network, samples, tmp_path, monkeypatch):
    from spikeclip.convert import run
    from spikeclip.convert.distil import Distillation

    settings = dataclasses.replace(SHORT, steps=0, distil_steps=7)
    wanted = convert(network, *samples, settings)
    monkeypatch.setattr(run, "_EVERY", 3)
    learn = Distillation.learn

    def stops(self, x):
        if self.step == 5:
            raise KeyboardInterrupt
        return learn(self, x)

    monkeypatch.setattr(Distillation, "learn", stops)
    with pytest.raises(Interrupted):
        convert_into(tmp_path / "tower", network, *samples, settings)
    monkeypatch.setattr(Distillation, "learn", learn)
    after = convert_into(tmp_path / "tower", network, *samples, settings)
    for name, value in wanted.tower.state_dict().items():
        assert torch.equal(after.tower.state_dict()[name], value), name


def test_a_saved_tower_is_read_again(done, network, samples, tmp_path):
    out = tmp_path / "tower"
    convert_into(out, network, *samples, dataclasses.replace(SHORT, steps=0, distil_steps=0))
    read = load_conversion(out)
    assert read.config == dataclasses.replace(done.config, text=read.config.text)
    result = agreement(read.tower, network.tower, samples[1], read.config.image)
    assert result == pytest.approx(read.record["agreement"]["mirroring"], rel=1e-3)
    with pytest.raises(InputError, match="holds a converted tower: --overwrite replaces it"):
        check_out(out)
    (out / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_conversion(out)
    with pytest.raises(InputError, match="holds no converted tower"):
        load_conversion(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"D": 1}, "D.* 1"),
        ({"D": 17}, "D.* 17"),
        ({"neuron": "lif"}, "unknown neuron of a conversion 'lif'"),
        ({"first_D": (0,)}, "first_D"),
        ({"places": {"spike": 0}}, "places"),
        ({"mean_spikes": 0.0}, "mean_spikes"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        ConvertSettings(**settings)


def test_pictures_of_another_size_and_a_device_that_is_not_there(network, samples):
    small = samples[0]._replace(images=samples[0].images.__class__([np.zeros((4, 8, 8, 3), np.uint8)]))
    with pytest.raises(
        InputError, match="no device 'gpu' here: it is cpu, or cuda where PyTorch finds a GPU"
    ):
        convert(network, *samples, SHORT, device="gpu")
    with pytest.raises(InputError, match=r"expected pictures of shape \(33, 33, 3\), got \(8, 8, 3\)"):
        convert(network, small, samples[1], SHORT)
