"""What is drawn for a sample depends on the seed, the epoch, the purpose and its index, and on nothing else."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeclip.data.draws import Draws

INDICES = torch.arange(20_000)
SEEDS = st.integers(0, 2**62)


@given(SEEDS, st.integers(0, 10_000), st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_a_sample_gets_the_same_number_in_every_batch(seed, epoch, indices):
    together = Draws(seed, epoch, torch.tensor(indices)).uniform("crop")
    alone = [Draws(seed, epoch, torch.tensor([i])).uniform("crop") for i in indices]
    assert torch.equal(together, torch.cat(alone))
    assert bool(((together >= 0) & (together < 1)).all())


@given(SEEDS)
def test_numbers_are_uniform_and_independent(seed):
    drawn = [
        Draws(seed, 0, INDICES).uniform("a"),
        Draws(seed, 0, INDICES).uniform("b"),
        Draws(seed, 1, INDICES).uniform("a"),
        Draws(seed + 1, 0, INDICES).uniform("a"),
        Draws(seed, 0, INDICES + 1).uniform("a"),
    ]
    for row in drawn:
        counts = torch.histc(row, 20, 0, 1)
        assert (
            (counts - 1000).square() / 1000
        ).sum() < 60  # chi squared, 19 degrees of freedom: p below 1e-5
    correlations = torch.corrcoef(torch.stack(drawn)) - torch.eye(len(drawn))
    assert correlations.abs().max() < 0.04


@given(SEEDS, st.integers(-5, 5), st.integers(0, 8))
def test_whole_numbers_reach_both_ends(seed, low, span):
    drawn = Draws(seed, 3, INDICES).integers("top", low, low + span)
    assert drawn.unique().tolist() == list(range(low, low + span + 1))
