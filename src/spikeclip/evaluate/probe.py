"""Linear probes on frozen embeddings: logistic regression on all training pictures, or on a few of each class."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.evaluate.zero_shot import check_embeddings, tracked, zero_shot_metrics

STRENGTHS = tuple(10.0**-i for i in range(6))
"""Of the L2 penalty, strongest first."""
SHOTS = (1, 2, 4, 8, 16)
HELD_SHOTS = 4
"""Most pictures of a class to select by, where as many or more are learned from."""
_STEPS = 100

Labelled = tuple[Tensor, Tensor]
"""Embeddings (N, D) and their labels (N,)."""


def linear_probe(
    learn: Labelled, held: Labelled, test: Labelled, classes: int, progress: bool = False
) -> tuple[dict[str, float], float]:
    """Return the metrics of a logistic regression on `test`, as of `zero_shot_metrics`, and its penalty.

    It learns on `learn`. The L2 penalty is the one of `STRENGTHS` with the best accuracy on `held`, the strongest of
    equal ones. Raises `InputError` for embeddings that are not numbers.
    """
    check_embeddings("training pictures", learn[0])
    mean_D = learn[0].mean(0)

    def features(rows_ND: Tensor) -> Tensor:
        """Centred, of unit scale, and a constant for the bias."""
        return F.pad((rows_ND - mean_D) * math.sqrt(rows_ND.shape[1]), (0, 1), value=1.0)

    x_NF, held_NF = features(learn[0]), features(held[0])
    weight_KF, best = torch.zeros(classes, x_NF.shape[1]), (-1.0, 0.0, torch.empty(0))
    for strength in tracked(STRENGTHS, "fitting the probe", progress):
        weight_KF = fit(x_NF, learn[1], strength, weight_KF)  # from one optimum to the next is a short way
        accuracy = zero_shot_metrics(held_NF, held[1], weight_KF)["acc1"]
        if accuracy > best[0]:
            best = (accuracy, strength, weight_KF)
    return zero_shot_metrics(features(test[0]), test[1], best[2]), best[1]


def fit(x_NF: Tensor, labels_N: Tensor, strength: float, start_KF: Tensor) -> Tensor:
    """Return the weights (K, F) that minimise cross-entropy + strength / 2 |w|^2, by L-BFGS; the last is the bias.

    The bias is not penalised.
    """
    weight_KF = start_KF.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight_KF], max_iter=_STEPS, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = 0.5 * strength * weight_KF[:, :-1].square().sum()
        loss = F.cross_entropy(x_NF @ weight_KF.T, labels_N) + penalty
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weight_KF.detach()


def draw_shots(labels_N: Tensor, most: int, seed: int) -> Tensor:
    """Return the places of `most` pictures of every class that occurs, a class a row, in random order.

    The first k of a row are its k shots, so fewer are among more. A row is as long as the smallest class allows.
    """
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(np.flatnonzero(labels_N == label)) for label in np.unique(labels_N)]
    shortest = min([most, *map(len, orders)])
    return torch.from_numpy(np.stack([order[:shortest] for order in orders]))
