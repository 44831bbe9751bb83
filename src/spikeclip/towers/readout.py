"""From features over time to one embedding: a weighting of the time steps, then a linear map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Readout(nn.Module):
    """Weighted mean over time, then Linear; (T, B, C) -> (B, embed_dim).

    The weights are softmax(slope * [0, ..., T-1]) with one learned slope, so they sum to one for every T; the
    start, ln 2, lets each step count twice the one before, as the published weights do.
    """

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(math.log(2.0)))
        self.linear = nn.Linear(width, embed_dim)

    def forward(self, x_TBC: Tensor) -> Tensor:
        return self.linear(self.over_time(x_TBC))

    def over_time(self, x_TBC: Tensor) -> Tensor:
        """(T, B, C) -> (B, C), the weighted mean over time that the linear map reads."""
        T = x_TBC.shape[0]
        steps_T = torch.arange(T, device=x_TBC.device, dtype=torch.float32)
        weights_T11 = (self.slope * steps_T).softmax(0).view(T, 1, 1)
        return (x_TBC * weights_T11).sum(0)


class PublishedReadout(nn.Module):
    """The published time weights, one raw number per step, used as they are (not normalised).

    They start at ln 0.1, ln 0.2, ln 0.4, ..., as in the released code.
    """

    def __init__(self, T: int) -> None:
        super().__init__()
        self.weights_T = nn.Parameter(torch.tensor([math.log(0.1 * 2**t) for t in range(T)]))

    def forward(self, x_TBC: Tensor) -> Tensor:
        """(T, B, C) -> (B, C), the weighted sum over time."""
        return (x_TBC * self.weights_T.view(-1, 1, 1)).sum(0)
