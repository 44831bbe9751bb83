"""The kernels of a CPU against the PyTorch loops; `test_triton` runs this file for those of a GPU.

Those run interpreted, or compiled where there is a GPU.
"""

import os
from unittest import mock

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeclip.neurons import ILIF, LIF, PLIF, functional

if "TRITON_INTERPRET" in os.environ:
    from spikeclip.neurons import triton as kernels

    DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    DTYPES = [torch.float32, torch.bfloat16, torch.float16]
else:
    from spikeclip.neurons import cpu as kernels

    DEVICE, DTYPES = "cpu", [torch.float32, torch.bfloat16]

compiled = pytest.mark.skipif(
    "TRITON_INTERPRET" not in os.environ, reason="torch.compile takes the PyTorch loops on a CPU"
)
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.flatten(0, 1).to(memory_format=torch.channels_last).view_as(x),
    "constant": lambda x: x[:1].contiguous().expand_as(x),
    "constant, channels last": lambda x: LAYOUTS["channels last"](x[:1].clone()).expand_as(x),
    "time inside": lambda x: x.transpose(0, 2).contiguous().transpose(0, 2),
    "part of a tensor": lambda x: torch.cat([x, x], dim=-1)[..., : x.shape[-1]],
}

shapes = st.tuples(*(st.integers(1, most) for most in (5, 3, 4, 5, 5))) | st.just((2, 3, 4, 10, 10))
# Shrinking takes minutes in the interpreter, and what is drawn is small.
everything = settings(max_examples=60, deadline=None, phases=[Phase.generate])


def running_on(module):
    """Run neurons by the kernels of `module`, or by the PyTorch loops where it is None."""

    def chosen(x_TX):
        return module

    return mock.patch.object(functional, "_kernels", chosen)


def drawn(shape, dtype, seed, layout="contiguous", weights_layout="contiguous"):
    """A current of multiples of 1/16, a state and weights; arithmetic on them is exact in fp32 for I-LIF."""
    random = torch.Generator().manual_seed(seed)
    x_TX = (torch.randn(shape, generator=random) * 24).round() / 16
    state_X = (torch.randn(shape[1:], generator=random) * 8).round() / 16
    weights_TX, weights_X = torch.randn(shape, generator=random), torch.randn(shape[1:], generator=random)
    current = LAYOUTS[layout](x_TX.to(DEVICE, dtype))
    weights_TX = LAYOUTS[weights_layout](weights_TX.to(DEVICE, dtype))
    return current, state_X.to(DEVICE), weights_TX, weights_X.to(DEVICE)


def compare(function, inputs, weights, dtype):
    """Outputs and gradients of function(*inputs) -> (spikes, state or None), both ways."""
    results = []
    for module in (None, kernels):
        leaves = [None if y is None else y.detach().requires_grad_() for y in inputs]
        with running_on(module):
            outputs = [y for y in function(*leaves) if y is not None]
            torch.autograd.backward(outputs, weights[: len(outputs)])
        results.append([y.detach() for y in outputs] + [leaf.grad for leaf in leaves if leaf is not None])
    (s_TX, *expected), (found_TX, *found) = results
    # The interpreter rounds bf16 toward zero; PyTorch on a GPU divides by D by way of 1 / D.
    spike_rtol, rtol = (1e-6, 1e-4) if dtype == torch.float32 else (1e-2, 1e-2)
    torch.testing.assert_close(found_TX, s_TX, rtol=spike_rtol, atol=0)
    for a, b in zip(found, expected, strict=True):
        # A learned factor's gradient is one sum over all neurons, whose terms cancel.
        size = max(1.0 if b.numel() == 1 else 0.0, *b.abs().flatten().tolist(), 0.0)
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * size)


@everything
@given(
    shape=shapes,
    layouts=st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 2),
    dtype=st.sampled_from(DTYPES),
    tau=st.floats(1.1, 8),
    learned=st.booleans(),
    state=st.booleans(),
    options=st.tuples(
        st.floats(0.25, 3),
        st.sampled_from([None, 0.0, -0.5]),
        st.booleans(),
        st.sampled_from(sorted(functional.SURROGATES)),
        st.floats(0.5, 6),
    ),
    seed=st.integers(0, 99),
)
def test_lif(shape, layouts, dtype, tau, learned, state, options, seed):
    x_TX, v_X, *weights = drawn(shape, dtype, seed, *layouts)
    tau = torch.tensor(tau, device=DEVICE) if learned else None
    compare(
        lambda x, v, tau_: functional._lif(x, v, 2.7 if tau_ is None else tau_, *options, streaming=state),
        [x_TX, v_X if state else None, tau],
        weights,
        dtype,
    )


@everything
@given(
    shape=shapes,
    layouts=st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 2),
    dtype=st.sampled_from(DTYPES),
    D=st.integers(1, 5),
    gain=st.sampled_from([0.5, 1.0, 2.0]),
    tau=st.sampled_from([4 / 3, 2.0, 4.0]),
    learned=st.booleans(),
    state=st.booleans(),
    detach_reset=st.booleans(),
    seed=st.integers(0, 99),
)
def test_ilif(shape, layouts, dtype, D, gain, tau, learned, state, detach_reset, seed):
    x_TX, r_X, *weights = drawn(shape, dtype, seed, *layouts)
    range = torch.tensor(D / gain, device=DEVICE) if learned else None
    compare(
        lambda x, r, range_: functional._ilif(
            x, r, D, D / gain if range_ is None else range_, tau, detach_reset, streaming=state
        ),
        [x_TX, r_X if state else None, range],
        weights,
        dtype,
    )


def test_more_neurons_than_one_program_takes():
    x_TX, v_X, *weights = drawn((3, 2 * kernels.BLOCK + 7), torch.float32, 0)
    tau = torch.tensor([2.7], device=DEVICE)  # one element, of whatever shape
    compare(
        lambda x, v, tau: functional._lif(x, v, tau, 1.0, 0.0, True, "atan", 2.0, streaming=True),
        [x_TX, v_X, tau],
        weights,
        torch.float32,
    )


@running_on(kernels)
def test_no_neurons():
    x_TX, tau = torch.zeros(4, 0, 3, device=DEVICE, requires_grad=True), torch.tensor(2.0, device=DEVICE)
    functional.lif(x_TX, tau=tau.requires_grad_()).sum().backward()
    assert x_TX.grad.shape == x_TX.shape
    assert tau.grad == 0


@running_on(kernels)
def test_not_a_number_stays_one():
    s_TX = functional.ilif(torch.tensor([[torch.nan, 0.3], [1.0, 0.3]], device=DEVICE))
    assert s_TX.isnan().tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("neuron", [functional.lif, functional.ilif])
@running_on(kernels)
def test_a_current_of_dense_time_steps_is_not_copied(neuron, layout, monkeypatch):
    copies, copy = [], torch.Tensor.copy_
    monkeypatch.setattr(torch.Tensor, "copy_", lambda *given: copies.append(given) or copy(*given))
    x_TBCHW = drawn((3, 2, 4, 5, 5), torch.float32, 0, layout)[0].requires_grad_()
    s_TBCHW = neuron(x_TBCHW)
    s_TBCHW.backward(torch.empty_like(s_TBCHW).fill_(1.0))
    if layout in ("time inside", "part of a tensor"):
        assert len(copies) == 2  # once forward, once backward
    else:
        assert not copies
        assert s_TBCHW[0].stride() == x_TBCHW[0].stride()


class Operations(TorchDispatchMode):
    """Notes the operations that are dispatched, outside the interpreter, which has its own."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@compiled
@pytest.mark.parametrize("neuron", [LIF, ILIF])
@running_on(kernels)
def test_a_call_allocates_and_launches_and_nothing_else(neuron, monkeypatch):
    """A number that is copied to a GPU is waited for; an operator of our own takes longer than the kernel."""
    monkeypatch.setattr(kernels, "_launch", lambda *_, **__: None)
    monkeypatch.setattr(kernels, "result_like", torch.empty_like)  # a CPU takes its memory elsewhere
    x_TX = torch.randn(4, 2, 300, device=DEVICE, requires_grad=True)
    with Operations() as operations:
        s_TX = neuron()(x_TX)
        s_TX.backward(torch.empty_like(s_TX))
    allocated = {name for name in operations.found if name.startswith(("empty", "new_empty"))}
    assert operations.found - allocated <= {"select", "slice", "as_strided", "detach", "unsqueeze"}


@pytest.mark.parametrize("neuron", [functional.lif, functional.ilif])
@running_on(kernels)
def test_long_currents_go_in_parts(neuron):
    """More steps than a program of the GPU holds, and a prime number of them."""
    for T in (17, 32):
        inputs = drawn((T, 40), torch.float32, T)
        compare(lambda x, _: (neuron(x), None), [inputs[0], None], inputs[2:], torch.float32)


@compiled
@pytest.mark.parametrize("dynamic", [False, True])
@running_on(kernels)
def test_torch_compile_takes_them_in_one_graph(dynamic):
    torch._dynamo.reset()
    network = nn.Sequential(
        *(LIF(v_reset=None), nn.Linear(8, 8), PLIF(), nn.Linear(8, 8), ILIF(learn_range=True))
    ).to(DEVICE)
    x_TBC, _, weights_TBC, _ = drawn((4, 5, 8), torch.float32, 0)
    results = []
    for run in (network, torch.compile(network, fullgraph=True, backend="aot_eager", dynamic=dynamic)):
        network.zero_grad()
        s_TBC = run(x_TBC)
        (s_TBC * weights_TBC).sum().backward()
        results.append([s_TBC.detach(), *(p.grad.clone() for p in network.parameters())])
    torch.testing.assert_close(*results)


@compiled
@pytest.mark.parametrize("neuron", [LIF, PLIF, ILIF])
@running_on(kernels)
def test_compiled_they_keep_the_current_alone(neuron):
    torch._dynamo.reset()
    x_TX, kept = torch.randn(4, 2, 300, device=DEVICE, requires_grad=True), []
    compiled = torch.compile(neuron().to(DEVICE), fullgraph=True, backend="aot_eager")
    with torch.autograd.graph.saved_tensors_hooks(lambda y: kept.append(y.numel()) or y, lambda y: y):
        compiled(x_TX)
    assert [size for size in kept if size > 1] == [x_TX.numel()]
