"""Augmentation and normalisation of batches of uint8 pictures and event recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spikeclip.config import AugmentConfig, ImageConfig
from spikeclip.data.colour import recolour
from spikeclip.data.decode import square
from spikeclip.data.draws import Draws
from spikeclip.errors import InputError


def augment(
    images_BHWC: Tensor, config: AugmentConfig, draws: Draws, mean: Sequence[float] = ImageConfig.mean
) -> Tensor:
    """Crop, flip, recolour and cut out a batch of uint8 pictures (B, H, W, ..., C); returns new ones of the same shape.

    draws: of these pictures, on their device; each is changed in the same way in every batch. flip="alternate": a
    half of the data set, which no seed changes, is flipped in even epochs and the other half in odd ones. All frames
    of a recording (B, H, W, T, 2) are treated alike. mean: in [0, 1], fills the cut-out square. Raises `InputError`
    when `crop`, `cutout` or `colour` does not fit the pictures, and `ValueError` for draws of more or fewer pictures.
    """
    batch, height, width = images_BHWC.shape[:3]
    if len(draws.indices_B) != batch:
        raise ValueError(f"expected the indices of {batch} pictures, got {len(draws.indices_B)}")
    if not 0 <= config.crop < min(height, width):
        raise InputError(f"augment.crop must be from 0 to {min(height, width) - 1} pixels, got {config.crop}")
    if not 0 <= config.cutout <= min(height, width):
        raise InputError(f"augment.cutout must be from 0 to {min(height, width)} pixels, got {config.cutout}")
    device = images_BHWC.device
    rows_BH = torch.arange(height, device=device).expand(batch, height)
    columns_BW = torch.arange(width, device=device).expand(batch, width)
    if config.crop:
        down_B = draws.integers("crop down", -config.crop, config.crop)
        right_B = draws.integers("crop right", -config.crop, config.crop)
        rows_BH = _reflect(rows_BH + down_B[:, None], height)
        columns_BW = _reflect(columns_BW + right_B[:, None], width)
    if config.flip != "none":
        random = config.flip == "random"
        coin_B = draws.integers("flip", 0, 1) if random else _coin(draws.indices_B) + draws.epoch
        flip_B = coin_B % 2 == 0
        columns_BW = torch.where(flip_B[:, None], columns_BW.flip(1), columns_BW)
    # One gather does both: padding would copy every picture first.
    offsets = torch.arange(batch, device=device)[:, None, None] * (height * width)
    pixels = (offsets + rows_BH[:, :, None] * width + columns_BW[:, None, :]).flatten()
    out_BHWC = images_BHWC.flatten(0, 2).index_select(0, pixels).view(images_BHWC.shape)
    if config.colour:
        out_BHWC = recolour(out_BHWC, config.colour, config.strength, draws)
    if config.cutout:
        top_B = draws.integers("cutout top", 0, height - config.cutout)
        left_B = draws.integers("cutout left", 0, width - config.cutout)
        inside_BH = _within(top_B, config.cutout, height)
        inside_BW = _within(left_B, config.cutout, width)
        fill = torch.tensor([round(255 * value) for value in mean], dtype=torch.uint8, device=device)
        hole_BHW = inside_BH[:, :, None] & inside_BW[:, None, :]
        hole = hole_BHW.view(*hole_BHW.shape, *[1] * (images_BHWC.ndim - 3))
        out_BHWC = torch.where(hole, fill, out_BHWC)
    return out_BHWC


def normalize(images_BHWC: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return uint8 pictures (B, H, W, C) as (pixel / 255 - mean) / std: (B, C, H, W) float32, NHWC memory.

    Recordings (B, H, W, T, C) become (B, T, C, H, W). Raises `InputError` for another number of channels.
    """
    if images_BHWC.shape[-1] != len(mean):
        raise InputError(
            f"expected pictures of {len(mean)} channels, got {images_BHWC.shape[-1]}: colours are 3, the polarities "
            "of events are 2"
        )
    scale = 1 / (255 * torch.tensor(std, dtype=torch.float32, device=images_BHWC.device))
    shift = 255 * torch.tensor(mean, dtype=torch.float32, device=images_BHWC.device)
    return images_BHWC.contiguous().float().sub_(shift).mul_(scale).movedim((1, 2), (-2, -1))


def preprocess(
    pictures: Sequence[Image.Image], image_size: int, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Return pictures of any size as a batch (B, 3, image_size, image_size), prepared as in training."""
    if not pictures:
        raise InputError("no pictures to prepare")
    squares = np.stack([square(picture, image_size) for picture in pictures])
    return normalize(torch.from_numpy(squares), mean, std)


def _reflect(positions: Tensor, size: int) -> Tensor:
    """Mirror positions outside [0, size) at the edge pixel, as reflect padding does."""
    return size - 1 - (size - 1 - positions.abs()).abs()


def _within(start_B: Tensor, length: int, size: int) -> Tensor:
    positions = torch.arange(size, device=start_B.device)
    return (positions >= start_B[:, None]) & (positions < start_B[:, None] + length)


def _coin(indices_B: Tensor) -> Tensor:
    """A fixed fair coin, 0 or 1, for each index (multiply and fold, so that neighbours differ)."""
    mixed = (indices_B.long() + 1) * 0x9E3779B1 & 0xFFFFFFFF
    mixed = (mixed ^ (mixed >> 15)) * 0x85EBCA6B & 0xFFFFFFFF
    return (mixed ^ (mixed >> 13)) >> 16 & 1
