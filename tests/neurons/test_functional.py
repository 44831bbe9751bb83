import math

import numpy as np
import pytest
import torch
import unrolled
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from spikeclip.errors import InputError
from spikeclip.neurons.functional import ilif, ilif_step, lif, lif_step

RESETS = [0.0, -0.5, None]

currents = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=3, max_side=5), elements=st.floats(-8, 8, width=32)
).map(torch.from_numpy)


def steps(step, x_TX, state, **settings):
    """Outputs of T single steps and the last state."""
    outputs = []
    for x in x_TX:
        output, state = step(x, state, **settings)
        outputs.append(output)
    return torch.stack(outputs), state


@given(currents, st.sampled_from(RESETS), st.floats(1.1, 8), st.floats(0.25, 3))
def test_lif_spikes_are_binary(x_TX, v_reset, tau, v_threshold):
    s_TX = lif(x_TX, tau=tau, v_threshold=v_threshold, v_reset=v_reset)
    assert s_TX.shape == x_TX.shape
    assert set(s_TX.unique().tolist()) <= {0.0, 1.0}


@given(currents, st.integers(1, 8), st.floats(0.5, 4), st.floats(1.1, 8))
def test_ilif_outputs_are_levels(x_TX, D, range, tau):
    s_TX = ilif(x_TX, D=D, range=range, tau=tau)
    levels = torch.arange(D + 1) / D
    assert s_TX.shape == x_TX.shape
    assert set(s_TX.unique().tolist()) <= set(levels.tolist())


@pytest.mark.parametrize("v_reset", [0.0, -0.5])
@pytest.mark.parametrize("tau", [1.5, 2.0, 5.0])
@pytest.mark.parametrize("current", [0.99, 1.3, 1.7, 2.9])
def test_lif_under_a_constant_current_fires_at_equal_intervals(v_reset, tau, current):
    # h[t] = v_reset + current (1 - (1 - 1/tau)^t) until the first spike; then it starts anew.
    reach = 1.0 - v_reset
    if current <= reach:
        expected = []
    else:
        interval = math.ceil(math.log(1 - reach / current) / math.log(1 - 1 / tau))
        expected = [t for t in range(40) if (t + 1) % interval == 0]
    s_T = lif(torch.full((40, 1), current, dtype=torch.float64), tau=tau, v_reset=v_reset)[:, 0]
    assert s_T.nonzero()[:, 0].tolist() == expected


@pytest.mark.parametrize(("v_reset", "after"), [(0.0, 0.0), (-0.5, -0.5), (None, 1.25 - 1.0)])
def test_reset_sets_or_subtracts(v_reset, after):
    start = v_reset or 0.0
    current = torch.tensor([(1.25 - start) * 2.0, 0.1])  # h = 1.25 and something below the threshold
    s_X, v_X = lif_step(current, v_reset=v_reset)
    assert s_X.tolist() == [1.0, 0.0]
    assert v_X.tolist() == pytest.approx([after, start + 0.05])


def test_the_threshold_itself_fires():
    assert lif(torch.tensor([[2.0]])).item() == 1.0


@pytest.mark.parametrize("neuron", [lif, ilif])
@given(x=st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=20))
def test_more_current_never_means_fewer_spikes(neuron, x):
    constant_TX = torch.tensor(sorted(x)).expand(6, -1)
    assert (neuron(constant_TX[:1]).diff(dim=1) >= 0).all()
    assert (neuron(constant_TX).sum(0).diff() >= -1e-6).all()


@given(currents, st.integers(1, 8), st.floats(0.5, 4))
def test_ilif_at_one_step_is_a_quantiser(x_TX, D, range):
    expected = np.round(np.clip(x_TX[:1].double().numpy() * D / range, 0, D)) / D
    s_TX = ilif(x_TX[:1], D=D, range=range).double().numpy()
    near_tie = np.abs(x_TX[:1].double().numpy() * D / range % 1 - 0.5) < 1e-5
    assert np.allclose(s_TX[~near_tie], expected[~near_tie])
    assert np.abs(s_TX - expected).max() < 1.001 / D


@given(currents, st.integers(1, 8))
def test_a_level_is_that_many_spikes_of_a_binary_neuron_in_D_substeps(x_TX, D):
    x_X = x_TX[0]
    v_X, count_X = x_X.double() * D / 2 + 0.5, torch.zeros(x_X.shape)
    near_tie = (v_X - v_X.round()).abs() < 1e-5
    for _ in range(D):  # integrate-and-fire with soft reset, all of the current at the start
        spike_X = (v_X >= 1).double()
        v_X, count_X = v_X - spike_X, count_X + spike_X
    n_X = ilif_step(x_X, D=D)[0] * D
    assert torch.allclose(n_X[~near_tie].double(), count_X[~near_tie].double())


def test_ilif_carries_what_it_did_not_fire():
    # u = 1.4 -> 1, 0.4 left; u = 0.2 + 1.2 = 1.4 -> 1 (2 without the decay); u = 0.2 + 1.4 = 1.6 -> 2; D at most.
    x_TX = torch.tensor([0.35, 0.3, 0.35, 9.0])[:, None]
    assert (ilif(x_TX, D=4, range=1.0, tau=2.0) * 4)[:, 0].tolist() == [1, 1, 2, 4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("whole", "step", "settings"),
    [(lif, lif_step, {"v_reset": v_reset, "tau": 3.0}) for v_reset in RESETS]
    + [(lif, lif_step, {"tau": torch.tensor(1.7)})]
    + [(ilif, ilif_step, {"D": D, "tau": 3.0, "range": 1.5}) for D in (1, 3, 4)],
)
def test_steps_equal_the_whole_bit_for_bit(whole, step, settings, dtype):
    x_TX = (torch.randn(7, 3, 50, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)
    s_TX, state_X = steps(step, x_TX, None, **settings)
    assert s_TX.dtype == dtype
    assert state_X.dtype == torch.float32
    assert torch.equal(s_TX, whole(x_TX, **settings))
    assert 0.05 < (s_TX > 0).float().mean() < 0.9


@pytest.mark.parametrize("neuron", [lif, ilif])
@pytest.mark.parametrize("autocast", [False, True])
def test_membranes_are_fp32_whatever_the_current(neuron, autocast):
    x_TX = (torch.randn(8, 4000, generator=torch.Generator().manual_seed(0)) * 2).bfloat16()
    expected_TX = neuron(x_TX.float())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        s_TX = neuron(x_TX)
    assert s_TX.dtype == torch.bfloat16
    assert torch.equal(s_TX.float(), expected_TX)
    reference = (
        (unrolled.lif, (2.0, 1.0, 0.0, True, "sigmoid", 4.0))
        if neuron is lif
        else (unrolled.ilif, (4, 2.0, 2.0, True))
    )
    half_TX, _ = reference[0](x_TX, torch.zeros_like(x_TX[0]), *reference[1])
    assert (half_TX.float() != expected_TX).any(), (
        "these currents do not tell a bf16 membrane from an fp32 one"
    )


def compare_gradients(ours, reference, inputs):
    """Outputs and gradients of two functions (*inputs) -> (spikes, state) in float64, through both outputs."""
    generator = torch.Generator().manual_seed(1)
    results = []
    for function in (ours, reference):
        leaves = [value.detach().clone().requires_grad_() for value in inputs]
        s_TX, state_X = function(*leaves)
        weights = [torch.randn(y.shape, generator=generator, dtype=torch.float64) for y in (s_TX, state_X)]
        generator.manual_seed(1)
        ((s_TX * weights[0]).sum() + (state_X * weights[1]).sum()).backward()
        results.append([s_TX.detach(), state_X.detach(), *(leaf.grad for leaf in leaves)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    return results[0]


def random64(*shape, scale=1.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale


@pytest.mark.parametrize("surrogate", ["sigmoid", "atan", "rectangular"])
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("v_reset", RESETS)
def test_lif_gradients_are_those_of_the_unrolled_loop(surrogate, detach_reset, v_reset):
    settings = {"v_threshold": 0.8, "v_reset": v_reset, "detach_reset": detach_reset}
    settings |= {"surrogate": surrogate, "alpha": 1.5}
    inputs = [random64(6, 4, 5, scale=3), random64(4, 5), torch.tensor(2.7, dtype=torch.float64)]

    s_TX, _, *gradients = compare_gradients(
        lambda x, v, tau: steps(lif_step, x, v, tau=tau, **settings),
        lambda x, v, tau: unrolled.lif(x, v, tau, **settings),
        inputs,
    )
    assert 0.1 < s_TX.mean() < 0.9
    assert all((gradient != 0).any() for gradient in gradients)

    rest = torch.full((4, 5), v_reset or 0.0, dtype=torch.float64)
    compare_gradients(
        lambda x, tau: (lif(x, tau=tau, **settings), x[0]),
        lambda x, tau: (unrolled.lif(x, rest, tau, **settings)[0], x[0]),
        [inputs[0], inputs[2]],
    )


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("D", [1, 4])
def test_ilif_gradients_are_those_of_the_unrolled_loop(D, detach_reset):
    settings = {"D": D, "tau": 3.0, "detach_reset": detach_reset}
    inputs = [random64(6, 4, 5), random64(4, 5), torch.tensor(1.3, dtype=torch.float64)]

    s_TX, _, *gradients = compare_gradients(
        lambda x, r, range: steps(ilif_step, x, r, range=range, **settings),
        lambda x, r, range: unrolled.ilif(x, r, range=range, **settings),
        inputs,
    )
    assert 0.1 < s_TX.mean() < 0.9
    assert all((gradient != 0).any() for gradient in gradients)

    for T in (1, 6):
        compare_gradients(
            lambda x, range: (ilif(x, range=range, **settings), x[0]),
            lambda x, range: (
                unrolled.ilif(x, torch.zeros_like(x[0]), range=range, **settings)[0],
                x[0],
            ),
            [inputs[0][:T], inputs[2]],
        )


@pytest.mark.parametrize("neuron", [lif, ilif])
@pytest.mark.parametrize("T", [1, 5])
def test_backward_keeps_one_tensor_of_the_size_of_the_current(neuron, T):
    x_TX = torch.randn(T, 2, 300, requires_grad=True)
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        neuron(x_TX)
    assert kept == [x_TX.numel()]


@pytest.mark.parametrize("neuron", [lif, ilif])
def test_layout_is_kept_and_a_broadcast_current_will_do(neuron):
    x_TBCHW = torch.randn(12, 8, 5, 5).to(memory_format=torch.channels_last).unflatten(0, (3, 4))
    assert neuron(x_TBCHW).stride() == x_TBCHW.stride()
    torch.testing.assert_close(neuron(x_TBCHW), neuron(x_TBCHW.contiguous()), rtol=0, atol=0)
    constant_TBX = torch.randn(1, 4, 9).expand(3, -1, -1)
    assert torch.equal(neuron(constant_TBX), neuron(constant_TBX.contiguous()))


def test_an_unknown_surrogate_is_named():
    with pytest.raises(InputError, match=r"surrogate 'sigmoud'; did you mean 'sigmoid'"):
        lif(torch.zeros(1, 1), surrogate="sigmoud")  # type: ignore[arg-type]
