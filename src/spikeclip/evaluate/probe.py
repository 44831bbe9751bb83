"""Linear probes on frozen embeddings: logistic regression on all training pictures, or on a few of each class."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.encode.vectors import check_embeddings
from spikeclip.evaluate.zero_shot import Labelled, zero_shot_metrics
from spikeclip.progress import tracked

STRENGTHS = tuple(10.0**-i for i in range(6))
"""Of the L2 penalty, strongest first."""
_STEPS = 100


def linear_probe(
    learn: Labelled, held: Labelled, test: Labelled, classes: int, progress: bool = False
) -> tuple[dict[str, float], float]:
    """Return the metrics of a logistic regression on `test`, as of `zero_shot_metrics`, and its penalty.

    It learns on `learn`. The L2 penalty is the one of `STRENGTHS` with the best accuracy on `held`, the strongest of
    equal ones. Raises `InputError` for embeddings that are not numbers.
    """
    check_embeddings("training pictures", np.asarray(learn[0]))
    mean_D = torch.as_tensor(learn[0]).mean(0)
    labels_N = torch.as_tensor(learn[1])

    def features(rows_ND: np.ndarray) -> Tensor:
        """Centred, of unit scale, and a constant for the bias."""
        return F.pad((torch.as_tensor(rows_ND) - mean_D) * math.sqrt(rows_ND.shape[1]), (0, 1), value=1.0)

    x_NF, held_NF = features(learn[0]), features(held[0])
    weight_KF, best = torch.zeros(classes, x_NF.shape[1]), (-1.0, 0.0, torch.empty(0))
    for strength in tracked(STRENGTHS, "fitting the probe", shown=progress):
        weight_KF = fit(x_NF, labels_N, strength, weight_KF)  # from one optimum to the next is a short way
        accuracy = zero_shot_metrics(held_NF.numpy(), held[1], weight_KF.numpy())["acc1"]
        if accuracy > best[0]:
            best = (accuracy, strength, weight_KF)
    return zero_shot_metrics(features(test[0]).numpy(), test[1], best[2].numpy()), best[1]


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
