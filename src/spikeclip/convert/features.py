"""A tower's pooled features in the ordinary network's scale: other readouts of them, and how near two towers are."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeclip.config import ImageConfig
from spikeclip.convert.distil import spikes_and_neurons
from spikeclip.convert.sample import Sample
from spikeclip.data.images import Images
from spikeclip.data.transforms import normalize
from spikeclip.neurons import record
from spikeclip.towers.separable import SeparableTower


@torch.no_grad()
def set_readout(tower: SeparableTower, weight_EC: Tensor, bias_E: Tensor) -> None:
    """Give a tower a linear map of the ordinary network's pooled features, (B, C) -> (B, E); its ranges go into it."""
    range_C = tower.head_spike.range_C
    assert range_C is not None
    linear = nn.Linear(weight_EC.shape[1], weight_EC.shape[0], device=range_C.device)
    linear.weight.copy_(weight_EC.double() * range_C.double())
    linear.bias.copy_(bias_E)
    tower.readout.linear = linear


@torch.no_grad()
def ordinary_features(tower: SeparableTower, x: Tensor) -> Tensor:
    """Return a tower's pooled features (B, C) of pictures (B, 3, H, W) in the ordinary network's scale."""
    assert tower.head_spike.range_C is not None
    return tower.features(x).mean(0) * tower.head_spike.range_C


@torch.no_grad()
def agreement(
    tower: SeparableTower, ordinary: SeparableTower, sample: Sample, config: ImageConfig
) -> dict[str, float]:
    """Compare a tower with the ordinary network: share of equal top-1 answers, cosine of features, mean spikes."""
    same = cosine = spikes = neurons = 0.0
    device = tower.readout.slope.device
    for x in normalized(sample.images, 16, config):
        x = x.to(device)
        with record(tower, spikes_and_neurons) as counts:
            found = ordinary_features(tower, x)
            answers = tower(x).argmax(1)
        wanted = ordinary_features(ordinary, x)
        same += float((answers == ordinary(x).argmax(1)).sum())
        cosine += float(F.cosine_similarity(found, wanted).sum())
        spikes += sum(float(count[0]) for count in counts.values())
        neurons += sum(float(count[1]) for count in counts.values())
    count = len(sample.images)
    return {"top1": same / count, "cosine": cosine / count, "mean_spikes": spikes / neurons}


def normalized(images: Images, size: int, config: ImageConfig) -> list[Tensor]:
    """Return pictures as normalised batches (B, 3, H, W) of at most `size`."""
    starts = range(0, len(images), size)
    arrays = (torch.from_numpy(np.array(images[start : start + size])) for start in starts)
    return [normalize(array, config.mean, config.std) for array in arrays]
