"""The neurons' equations as plain loops that autograd differentiates: what the hand-written backward must equal."""

import math

import torch

# Each has the surrogate as its derivative.
_SMOOTH = {
    "sigmoid": lambda x, alpha: torch.sigmoid(alpha * x),
    "atan": lambda x, alpha: torch.atan(math.pi / 2 * alpha * x) / math.pi,
    "rectangular": lambda x, alpha: (alpha * x).clamp(-0.5, 0.5),
}


def lif(x_TX, v_X, tau, v_threshold, v_reset, detach_reset, surrogate, alpha):
    spikes = []
    for x in x_TX:
        h = v_X + (x - (v_X - (v_reset or 0.0))) / tau
        smooth = _SMOOTH[surrogate](h - v_threshold, alpha)
        s = (h >= v_threshold).to(h) + smooth - smooth.detach()
        reset = s.detach() if detach_reset else s
        v_X = h - v_threshold * reset if v_reset is None else h + (v_reset - h) * reset
        spikes.append(s)
    return torch.stack(spikes), v_X


def ilif(x_TX, r_X, D, range, tau, detach_reset):
    spikes = []
    for x in x_TX:
        u = (1 - 1 / tau) * r_X + x * D / range
        clipped = u.clamp(0, D)
        n = clipped + (clipped.round() - clipped).detach()
        r_X = u - (n.detach() if detach_reset else n)
        spikes.append(n / D)
    return torch.stack(spikes), r_X
