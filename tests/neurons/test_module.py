import pytest
import torch
from torch import nn

from spikeclip.config import NeuronConfig
from spikeclip.errors import InputError
from spikeclip.neurons import (
    ILIF,
    LIF,
    PLIF,
    QuantReLU,
    ReLU,
    density,
    functional,
    make_channel_neuron,
    make_neuron,
    mean_spikes,
    record,
    relu_phase,
)

NEURONS = {
    "lif": lambda: LIF(v_reset=None),
    "plif": lambda: PLIF(tau=3.0),
    "ilif": lambda: ILIF(learn_range=True),
    "relu": ReLU,
    "quant_relu": QuantReLU,
}


def current(T=4, *shape):
    return torch.randn(T, *(shape or (3, 40)), generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize("kind", [LIF, PLIF])
def test_lif_settings_reach_the_equation(kind):
    settings = {"tau": 3.0, "v_threshold": 0.7, "v_reset": -0.2, "detach_reset": False}
    settings |= {"surrogate": "atan", "alpha": 2.0}
    x, y = (current().requires_grad_() for _ in range(2))
    made, expected = kind(**settings)(x), functional.lif(y, **settings)
    made.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(made, expected)
    torch.testing.assert_close(x.grad, y.grad)


def test_ilif_settings_reach_the_equation():
    settings = {"D": 3, "range": 1.5, "tau": 3.0, "detach_reset": False}
    x, y = (current().requires_grad_() for _ in range(2))
    made, expected = ILIF(**settings)(x), functional.ilif(y, **settings)
    made.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(made, expected)
    assert torch.equal(x.grad, y.grad)


@pytest.mark.parametrize("kind", NEURONS)
def test_calls_leave_nothing_behind_and_steps_give_the_same(kind):
    neuron, x_TBX = NEURONS[kind](), current()
    first = neuron(x_TBX)
    assert torch.equal(first, neuron(x_TBX))
    state, outputs = None, []
    for x_BX in x_TBX:
        output, state = neuron.step(x_BX, state)
        outputs.append(output)
    assert torch.equal(torch.stack(outputs), first)


@pytest.mark.parametrize("kind", ["relu", "quant_relu"])
def test_the_twins_have_no_memory(kind):
    neuron, x_TBX = NEURONS[kind](), current()
    assert torch.equal(neuron(x_TBX).flip(0), neuron(x_TBX.flip(0)))
    assert neuron.step(x_TBX[0])[1] is None


def test_the_quantised_twin_is_ilif_at_one_step():
    x_TBX = current(1)
    assert torch.equal(QuantReLU(D=3, range=1.5)(x_TBX), ILIF(D=3, range=1.5)(x_TBX))


def test_plif_learns_its_time_constant():
    neuron = PLIF(tau=3.0)
    assert dict(neuron.named_parameters()).keys() == {"w"}
    assert neuron.w.sigmoid().item() == pytest.approx(1 / 3)
    optimizer = torch.optim.SGD(neuron.parameters(), lr=0.1)
    with torch.no_grad():
        target = LIF(tau=1.5)(current(6, 2000)).mean()
    for _ in range(60):
        optimizer.zero_grad()
        (neuron(current(6, 2000)).mean() - target).square().mul(40).backward()
        optimizer.step()
    tau = neuron.time_constant().item()
    assert tau == pytest.approx(1.5, abs=0.2)
    assert f"tau={tau:g}" in repr(neuron)


def test_range_is_a_parameter_only_where_asked():
    assert not list(ILIF().parameters())
    neuron = ILIF(range=1.5, learn_range=True)
    assert {name: value.item() for name, value in neuron.named_parameters()} == {"range": 1.5}
    neuron(current()).sum().backward()
    assert "range=1.5" in repr(neuron)
    assert neuron.range.grad < 0  # a wider range gives fewer spikes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(tau=1.0), "tau must be above 1 time step, got 1.0"),
        (lambda: PLIF(tau=0.5), "tau must be above 1 time step, got 0.5"),
        (lambda: LIF(surrogate="relu"), "unknown surrogate 'relu'; known: atan, rectangular, sigmoid"),
        (lambda: ILIF(D=0), "D must be at least 1 level, got 0"),
        (lambda: ILIF(range=0.0), "range must be above 0"),
    ],
)
def test_settings_that_cannot_work(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("kind", NEURONS)
def test_torch_compile_takes_the_whole_neuron(kind):
    # aot_eager traces forward and backward as inductor does, without its C++ compiler.
    compare_compiled(NEURONS[kind](), "aot_eager")


def test_inductor_gives_the_same_spikes():
    compare_compiled(nn.Sequential(PLIF(), ILIF(learn_range=True)), "inductor")


def compare_compiled(neuron, backend):
    torch._dynamo.reset()
    results = []
    for run in (neuron, torch.compile(neuron, fullgraph=True, backend=backend)):
        x_TBX = current(3).requires_grad_()
        neuron.zero_grad()
        s_TBX = run(x_TBX)
        (s_TBX * current(3)).sum().backward()
        results.append([s_TBX.detach(), x_TBX.grad, *(p.grad.clone() for p in neuron.parameters())])
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0], results[1])


def test_ilif_of_one_step_compiles_to_plain_operations():
    """Which a compiler fuses with what is before it; PyTorch's loop gives the same spikes and gradients."""
    neuron, x_TBX = ILIF(learn_range=True), torch.tensor([[-1.0, 0.0, 0.26, 0.3, 1.99, 2.0, 2.1, torch.nan]])
    results = []
    for run in (neuron, torch.compile(neuron, fullgraph=True, backend="aot_eager")):
        for dtype in (torch.float32, torch.bfloat16):
            x = x_TBX.clone().to(dtype).requires_grad_()
            s_TBX = run(x)
            assert s_TBX.dtype == dtype
            s_TBX[:, :-1].sum().backward()
            results.append((s_TBX.detach(), x.grad[:, :-1]))
    for found, expected in zip(results[2:], results[:2], strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_a_compiled_network_tells_its_rates_with_gradients():
    torch._dynamo.reset()
    network = nn.Sequential(nn.Linear(40, 40), LIF(), nn.Linear(40, 40), ILIF())
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    results = []
    for run in (network, torch.compile(network, fullgraph=True, backend=count)):
        for _ in range(2):  # the second time the same graph
            network.zero_grad()
            with record(network) as rates:
                run(current())
            torch.stack(list(rates.values())).sum().backward()
        results.append(({k: v.detach() for k, v in rates.items()}, network[0].weight.grad.clone()))
    torch.testing.assert_close(*results)
    assert results[0][0].keys() == {"1", "3"}
    assert results[0][1].abs().sum() > 0
    assert len(graphs) == 1


@pytest.mark.parametrize("kind", NEURONS)
def test_make_neuron_scales_what_decides_when_it_fires(kind):
    config = NeuronConfig(kind=kind, v_reset=None, range=1.5)
    neuron, half, x_TBX = make_neuron(config), make_neuron(config, scale=0.5), current(1)
    assert type(neuron) is type(NEURONS[kind]())
    if kind == "relu":
        assert torch.equal(half(x_TBX), neuron(x_TBX))
    else:
        assert torch.equal(half(x_TBX), neuron(2 * x_TBX))
        assert not torch.equal(half(x_TBX), neuron(x_TBX))


def test_record_names_every_neuron_that_runs_and_then_lets_go():
    network = nn.Sequential(nn.Linear(40, 40), LIF(), nn.ModuleDict({"unused": LIF()})["unused"], ILIF(D=2))
    x_TBX = current()
    with record(network) as rates, record(network, density) as densities:
        network(x_TBX)
        outputs = [network[:i](x_TBX) for i in (2, 3, 4)]
    assert rates.keys() == densities.keys() == {"1", "2", "3"}
    for name, output, levels in zip("123", outputs, (1, 1, 2), strict=True):
        assert rates[name].item() == pytest.approx(output.mean().item() * levels)
        assert densities[name].item() == pytest.approx((output > 0).float().mean().item())
    rates.clear()
    network(x_TBX)
    assert not rates


def test_record_lets_go_after_an_error():
    network = nn.Sequential(LIF())
    with pytest.raises(RuntimeError), record(network) as rates:
        raise RuntimeError
    network(current())
    assert not rates


def test_mean_spikes_count_levels_and_can_be_penalised():
    neuron, x_TBX = ILIF(D=4, range=4.0), torch.full((1, 1, 10), 2.9).requires_grad_()
    rate = mean_spikes(neuron, neuron(x_TBX))
    assert rate.item() == 3
    rate.backward()
    assert (x_TBX.grad > 0).all()


@pytest.mark.parametrize("kind", ["ilif", "quant_relu"])
def test_relu_phase_is_a_relu_in_units_of_the_range(kind):
    network = nn.Sequential(make_neuron(NeuronConfig(kind=kind, range=1.5)))
    x_TBX = current()
    spikes = network(x_TBX)
    with relu_phase(network):
        torch.testing.assert_close(network(x_TBX), x_TBX.clamp(min=0) / 1.5)
        torch.testing.assert_close(network[0].step(x_TBX[0])[0], x_TBX[0].clamp(min=0) / 1.5)
    assert torch.equal(network(x_TBX), spikes)
    with relu_phase(network, active=False):
        assert torch.equal(network(x_TBX), spikes)


def test_relu_phase_ends_with_an_error_and_refuses_lif():
    network = nn.Sequential(ILIF())
    with pytest.raises(RuntimeError), relu_phase(network):
        raise RuntimeError
    assert network(current()).max() <= 1
    with pytest.raises(InputError, match="no ReLU phase"), relu_phase(nn.Sequential(ILIF(), PLIF())):
        pass


@pytest.mark.parametrize("kind", ["lif", "plif", "ilif", "relu", "quant_relu"])
def test_signed_neurons_are_two_populations(kind):
    T = 1 if kind in ("relu", "quant_relu") else 4
    neuron = make_channel_neuron(NeuronConfig(kind=kind, T=T, D=3, range=1.0), 5, signed=True)
    alone = make_channel_neuron(NeuronConfig(kind=kind, T=T, D=3, range=1.0), 5)
    for module in (neuron, alone):
        module.range_C.copy_(torch.linspace(0.5, 2, 5))
    x_TBCHW = current(T, 2, 5, 3, 3)
    on, off, both = alone(x_TBCHW), alone(-x_TBCHW), neuron(x_TBCHW)
    assert torch.equal(both, on - off)
    assert (both > 0).any()
    assert (both < 0).any()
    steps, state = [], None
    for x_BCHW in x_TBCHW:
        s_BCHW, state = neuron.step(x_BCHW, state)
        steps.append(s_BCHW)
    assert torch.equal(torch.stack(steps), both)
    assert float(mean_spikes(neuron, both).detach()) == pytest.approx(
        float(both.detach().abs().mean()) * neuron.levels
    )


def test_a_channel_has_its_own_range():
    neuron = make_channel_neuron(NeuronConfig(kind="ilif", D=4, range=1.0), 2)
    neuron.range_C.copy_(torch.tensor([1.0, 4.0]))
    s_TBCHW = neuron(torch.full((1, 1, 2, 1, 1), 1.0))
    assert s_TBCHW.flatten().tolist() == [1.0, 0.25]
