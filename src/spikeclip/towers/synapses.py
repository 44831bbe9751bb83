"""Linear maps and convolutions of spikes, with weights as they are or, in training, rounded as the int8 engine does.

A layer that reads pixels, or real values in the readout, is a plain `nn.Conv2d` or `nn.Linear`: the engine keeps its
weights in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """A linear map that reads spikes."""

    rounded = False

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, round_weight(self.weight) if self.rounded else self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """A convolution that reads spikes."""

    rounded = False

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(
            input, round_weight(self.weight) if self.rounded else self.weight, self.bias
        )


def round_weight(weight_OX: Tensor) -> Tensor:
    """Round weights to -127 ... 127 times one number for each output channel; the gradient passes straight through.

    BatchNorm multiplies a channel and its grid alike, so this is the rounding of the lowered network, too. (Jacob et
    al., arXiv 1712.05877, section 3, without zero points.)
    """
    tiny = torch.finfo(weight_OX.dtype).tiny
    scale_O = weight_OX.detach().flatten(1).abs().amax(1).clamp(min=tiny) / 127
    scale_OX = scale_O.view(-1, *[1] * (weight_OX.ndim - 1))
    return weight_OX + ((weight_OX / scale_OX).round() * scale_OX - weight_OX).detach()


@contextmanager
def int8_weights(model: nn.Module, active: bool = True) -> Iterator[None]:
    """Run every synapse of `model` with rounded weights inside the `with` block."""
    synapses = [module for module in model.modules() if isinstance(module, (Linear, Conv2d))]
    for module in synapses:
        module.rounded = active
    try:
        yield
    finally:
        for module in synapses:
            module.rounded = False
