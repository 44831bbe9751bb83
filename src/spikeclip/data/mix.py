"""Mixtures of two pictures: mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899)."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeclip.config import AugmentConfig
from spikeclip.data.draws import Draws


def partners(draws: Draws, samples: int) -> Tensor:
    """Return for each sample the place, from 0 to samples - 1, of the one that it is mixed with (B,) int64."""
    return draws.integers("partner", 0, samples - 1)


def mix(images_BX: Tensor, others_BX: Tensor, config: AugmentConfig, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return each picture mixed with another one, and the share of its own in it (B,).

    images_BX, others_BX: (B, ..., H, W). The share is uniform, Beta(1, 1), in `config.mix_share` of the pictures, and 1
    in the others. cutmix puts a rectangle of the other picture at a random place, as far as it is inside.
    """
    share_B = torch.where(draws.uniform("mixed") < config.mix_share, draws.uniform("share"), 1.0)
    behind = (slice(None), *[None] * (images_BX.ndim - 1))
    if config.mix == "mixup":
        return torch.lerp(others_BX, images_BX, share_B[behind]), share_B
    side_B = (1 - share_B).sqrt()
    rows_BH = _interval(draws.uniform("row"), side_B, images_BX.shape[-2])
    columns_BW = _interval(draws.uniform("column"), side_B, images_BX.shape[-1])
    hole_BHW = rows_BH[:, :, None] & columns_BW[:, None, :]
    hole = hole_BHW.view(len(hole_BHW), *[1] * (images_BX.ndim - 3), *hole_BHW.shape[1:])
    return torch.where(hole, others_BX, images_BX), 1 - hole_BHW.float().mean((1, 2))


def _interval(centre_B: Tensor, side_B: Tensor, size: int) -> Tensor:
    """Say which of `size` pixels are within half a side of a centre, both as shares of the size (B, size)."""
    pixels = (torch.arange(size, device=centre_B.device) + 0.5) / size
    return (pixels - centre_B[:, None]).abs() < side_B[:, None] / 2
