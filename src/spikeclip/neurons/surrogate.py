"""Derivatives that stand in for the step function `x >= 0` when a spiking neuron is trained."""

from __future__ import annotations

import math

from torch import Tensor


def sigmoid(x: Tensor, alpha: float) -> Tensor:
    """alpha * s * (1 - s) with s = sigmoid(alpha x): the derivative of a sigmoid of steepness alpha."""
    s = (alpha * x).sigmoid_()
    return s.mul_(1 - s).mul_(alpha)


def atan(x: Tensor, alpha: float) -> Tensor:
    """alpha / 2 / (1 + (pi/2 alpha x)^2): the derivative of atan(pi/2 alpha x) / pi (Fang et al., ICCV 2021)."""
    return (alpha / 2) / (1 + (math.pi / 2 * alpha * x) ** 2)


def rectangular(x: Tensor, alpha: float) -> Tensor:
    """alpha where |x| < 1 / (2 alpha), else 0: a window of unit area (STBP, Wu et al. 2018)."""
    return (x.abs() < 0.5 / alpha).to(x.dtype) * alpha


SURROGATES = {"sigmoid": sigmoid, "atan": atan, "rectangular": rectangular}
