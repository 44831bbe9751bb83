import math

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import distributed as dist

from spikeclip.config import NeuronConfig
from spikeclip.towers.block import Attention
from spikeclip.towers.norm import BatchNorm, ConvBN
from spikeclip.towers.readout import PublishedReadout, Readout
from spikeclip.towers.stem import Whitening
from spikeclip.towers.text import text_mask


def make_norm(channels=5, **settings):
    norm = BatchNorm(channels, **settings)
    with torch.no_grad():
        norm.bias.copy_(torch.linspace(-1, 1, channels))
        norm.weight.copy_(torch.linspace(1, 2, channels))
    return norm.double()


def test_masked_rows_do_not_count():
    x_RC = torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 1
    kept_R = torch.arange(40) % 3 != 0
    x_RC[~kept_R] *= 100
    weights = torch.randn(int(kept_R.sum()), 5, dtype=torch.float64)
    results = []
    for rows, mask in ((x_RC.requires_grad_(), kept_R), (x_RC[kept_R].detach().requires_grad_(), None)):
        norm = make_norm(momentum=0.3)
        out = norm(rows, mask) if mask is None else norm(rows, mask)[mask]
        (out * weights).sum().backward()
        gradients = [rows.grad if mask is None else rows.grad[mask], norm.weight.grad, norm.bias.grad]
        results.append([out.detach(), *gradients, norm.running_mean, norm.running_var])
    torch.testing.assert_close(*results)
    assert not x_RC.grad[~kept_R].any()


def test_evaluation_uses_the_running_statistics_mask_or_not():
    norm, x = make_norm(), torch.randn(6, 5, dtype=torch.float64)
    norm(x, torch.ones(6, dtype=torch.bool))
    norm.eval()
    mask = torch.arange(6) < 3
    assert torch.equal(norm(x, mask), norm(x))
    expected = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), expected)


def test_without_gain_the_scale_is_not_learned():
    assert [name for name, _ in BatchNorm(3, gain=False).named_parameters()] == ["bias"]
    assert "weight" in BatchNorm(3, gain=False).state_dict()


X_RC = torch.randn(10, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 1
MASK_R = torch.arange(10) % 3 != 0
HALVES = [slice(0, 4), slice(4, 10)]  # the last batch of an epoch need not divide


def _normalise(rows):
    """Outputs, gradients and running statistics of two training steps, the second one with a mask."""
    norm, results = make_norm(), []
    for mask_R in (None, MASK_R[rows]):
        x_RC = X_RC[rows].clone().requires_grad_()
        out_RC = norm(x_RC, mask_R)
        out_RC = out_RC if mask_R is None else out_RC[mask_R]
        (out_RC.square() * torch.linspace(0, 1, 5, dtype=x_RC.dtype)).sum().backward()
        results += [out_RC.detach(), x_RC.grad]
    return results, [norm.running_mean, norm.running_var]


def _process(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(_normalise(HALVES[rank]), f"{folder}/{rank}.pt")
    dist.barrier()  # gloo aborts where one process leaves while the other still listens
    dist.destroy_process_group()


def test_two_processes_normalise_as_one(tmp_path):
    mp.spawn(_process, (tmp_path,), nprocs=2)
    parts, statistics = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)), strict=True)
    expected, expected_statistics = _normalise(slice(None))
    torch.testing.assert_close([torch.cat(pair) for pair in zip(*parts, strict=True)], expected)
    torch.testing.assert_close(list(statistics), [expected_statistics] * 2)


def test_pooling_stands_between_convolution_and_norm():
    layer = ConvBN(3, 4, pool_first=2).eval()
    with torch.no_grad():
        layer.bn.weight.fill_(-1)  # a negative gain does not commute with a maximum
        x_TBCHW = torch.randn(2, 3, 3, 6, 7)
        out_TBCHW = layer(x_TBCHW)
        assert out_TBCHW.shape == (2, 3, 4, 3, 3)
        expected = -F.max_pool2d(layer.conv(x_TBCHW[1]), 2)
    torch.testing.assert_close(out_TBCHW[1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tokens", [3, 20])
def test_attention_is_q_k_v_whichever_product_is_cheaper(tokens):
    torch.manual_seed(0)
    attention = Attention(16, 2, NeuronConfig(kind="relu"), scale=0.3).eval()
    seen = {}
    for name in ("q_spike", "k_spike", "v_spike", "product_spike"):
        attention.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
    attention(torch.randn(2, 3, tokens, 16))
    q, k, v = (seen[f"{name}_spike"][1].unflatten(3, (2, 8)) for name in "qkv")
    expected = torch.einsum("tbnhd,tbmhd,tbmhe->tbnhe", q, k, v).flatten(3) * 0.3
    torch.testing.assert_close(seen["product_spike"][0], expected)


@pytest.mark.parametrize("T", [1, 2, 5])
def test_the_readout_is_a_mean_over_any_number_of_steps(T):
    readout = Readout(6, 4)
    constant_TBC = torch.randn(1, 3, 6).expand(T, -1, -1)
    torch.testing.assert_close(readout(constant_TBC), readout.linear(constant_TBC[0]))


def test_later_steps_count_twice_the_one_before():
    readout, x_TBC = Readout(6, 4), torch.randn(3, 2, 6)
    expected = readout.linear((x_TBC[0] + 2 * x_TBC[1] + 4 * x_TBC[2]) / 7)
    torch.testing.assert_close(readout(x_TBC), expected)


def test_published_time_weights():
    x_TBC = torch.randn(4, 2, 6)
    weights = [math.log(w) for w in (0.1, 0.2, 0.4, 0.8)]
    expected = sum(w * x for w, x in zip(weights, x_TBC, strict=True))
    torch.testing.assert_close(PublishedReadout(4)(x_TBC), expected)


def test_whitening_gives_patches_unit_covariance():
    torch.manual_seed(0)
    smooth = F.avg_pool2d(torch.randn(64, 3, 20, 20), 3, 1) * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1)
    pictures = smooth + smooth.mean(1, keepdim=True)
    whitening = Whitening()
    covariance = torch.cov(whitening(pictures).transpose(0, 1).flatten(1))
    assert (covariance[:12, :12] - torch.eye(12)).abs().max() > 0.5
    whitening.fit(pictures, eps=0.0)
    covariance = torch.cov(whitening(pictures).transpose(0, 1).flatten(1))
    signs = torch.cat([torch.eye(12), -torch.eye(12)])
    torch.testing.assert_close(covariance, signs @ signs.T, rtol=0, atol=2e-3)
    assert not list(whitening.parameters())
    assert "filters" in whitening.state_dict()


def test_a_text_ends_with_its_first_end_token():
    tokens = torch.tensor([[1, 9, 9, 2], [1, 2, 3, 9], [1, 2, 3, 4], [9, 1, 2, 9]])
    assert text_mask(tokens, eos_id=9).int().tolist() == [
        [1, 1, 0, 0],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
        [1, 0, 0, 0],
    ]
