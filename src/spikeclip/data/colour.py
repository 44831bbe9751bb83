"""RandAugment's colour operations (arXiv 1909.13719) on batches of pictures, each picture by its own draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.data.draws import Draws
from spikeclip.errors import InputError

_GREY = (0.299, 0.587, 0.114)
"""Share of each colour in what the eye sees as brightness (ITU-R BT.601)."""
_ENHANCED, _STEPS = 0.9, 4
"""At strength 1: change of a contrast, and how many of the 8 bits posterising drops."""


def recolour(images_BHWC: Tensor, count: int, strength: float, draws: Draws) -> Tensor:
    """Return uint8 pictures (B, H, W, 3) after `count` operations each, drawn from `OPERATIONS`.

    strength: from 0 to 1; what has a direction gets it by a coin. All operations are computed for every picture: to
    choose would make a GPU wait. Raises `InputError` for recordings of events, which have no colours.
    """
    if images_BHWC.ndim != 4 or images_BHWC.shape[-1] != 3:
        raise InputError(
            "augment.colour works on pictures of 3 channels, not on event recordings: set it to 0"
        )
    x_BHWC = images_BHWC.float()
    for i in range(count):
        # One more than there are: a picture may also stay as it is.
        chosen_B = draws.integers(f"colour {i}", 0, len(OPERATIONS))
        amount_B = strength * (2.0 * draws.integers(f"colour direction {i}", 0, 1) - 1)
        changed_BHWC = x_BHWC
        for place, operation in enumerate(OPERATIONS.values()):
            here_B111 = _column(chosen_B == place)
            changed_BHWC = torch.where(here_B111, operation(x_BHWC, _column(amount_B)), changed_BHWC)
        x_BHWC = changed_BHWC.round().clamp(0, 255)
    return x_BHWC.to(torch.uint8)


def brightness(x_BHWC: Tensor, amount_B111: Tensor) -> Tensor:
    return x_BHWC * (1 + _ENHANCED * amount_B111)


def contrast(x_BHWC: Tensor, amount_B111: Tensor) -> Tensor:
    return _away(x_BHWC, _grey(x_BHWC).mean((1, 2, 3), keepdim=True), amount_B111)


def saturation(x_BHWC: Tensor, amount_B111: Tensor) -> Tensor:
    return _away(x_BHWC, _grey(x_BHWC), amount_B111)


def sharpness(x_BHWC: Tensor, amount_B111: Tensor) -> Tensor:
    """Away from the picture blurred by (1 1 1, 1 5 1, 1 1 1) / 13; its border stays."""
    x_BCHW = x_BHWC.movedim(-1, 1)
    mean_BCHW = F.pad(F.avg_pool2d(x_BCHW, 3, 1), (1, 1, 1, 1))
    blurred_BCHW = (9 * mean_BCHW + 4 * x_BCHW) / 13
    inside_HW = F.pad(x_BHWC.new_ones(x_BCHW.shape[2] - 2, x_BCHW.shape[3] - 2), (1, 1, 1, 1)) > 0
    return _away(x_BHWC, torch.where(inside_HW, blurred_BCHW, x_BCHW).movedim(1, -1), amount_B111)


def posterise(x_BHWC: Tensor, amount_B111: Tensor) -> Tensor:
    """Drop the last bits, up to four of them."""
    size_B111 = 2.0 ** (_STEPS * amount_B111.abs()).round()
    return (x_BHWC / size_B111).floor() * size_B111


def solarise(x_BHWC: Tensor, amount_B111: Tensor) -> Tensor:
    """Invert what is as bright as a threshold, 256 at strength 0, or brighter."""
    return torch.where(x_BHWC >= 256 * (1 - amount_B111.abs()), 255 - x_BHWC, x_BHWC)


def autocontrast(x_BHWC: Tensor, amount_B111: Tensor) -> Tensor:
    """Stretch each colour of a picture from 0 to 255; one of a single value stays."""
    low, high = x_BHWC.amin((1, 2), keepdim=True), x_BHWC.amax((1, 2), keepdim=True)
    stretched = (x_BHWC - low) * (255 / (high - low).clamp(min=1))
    return torch.where(high > low, stretched, x_BHWC)


def equalise(x_BHWC: Tensor, amount_B111: Tensor) -> Tensor:
    """Spread each colour of a picture so that its values occur as evenly as they can."""
    values_BCP = x_BHWC.movedim(-1, 1).flatten(2).round().clamp(0, 255).long()
    counts_BCV = torch.zeros(*values_BCP.shape[:2], 256, dtype=torch.long, device=x_BHWC.device)
    counts_BCV.scatter_add_(2, values_BCP, torch.ones_like(values_BCP))
    brightest_BC1 = values_BCP.amax(2, keepdim=True)
    step_BC1 = (values_BCP.shape[2] - counts_BCV.gather(2, brightest_BC1)) // 255
    below_BCV = counts_BCV.cumsum(2) - counts_BCV
    table_BCV = ((step_BC1 // 2 + below_BCV) // step_BC1.clamp(min=1)).clamp(max=255)
    made_BCP = torch.where(step_BC1 > 0, table_BCV.gather(2, values_BCP), values_BCP)
    return made_BCP.view_as(x_BHWC.movedim(-1, 1)).movedim(1, -1).to(x_BHWC.dtype)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    operation.__name__: operation
    for operation in (
        brightness,
        contrast,
        saturation,
        sharpness,
        posterise,
        solarise,
        autocontrast,
        equalise,
    )
}
"""Of pictures as numbers from 0 to 255, float32 (B, H, W, 3), and amounts from -1 to 1 (B, 1, 1, 1), by their names."""


def _away(x_BHWC: Tensor, from_BHWC: Tensor, amount_B111: Tensor) -> Tensor:
    return from_BHWC + (x_BHWC - from_BHWC) * (1 + _ENHANCED * amount_B111)


def _grey(x_BHWC: Tensor) -> Tensor:
    return (x_BHWC * x_BHWC.new_tensor(_GREY)).sum(-1, keepdim=True)


def _column(x_B: Tensor) -> Tensor:
    return x_B[:, None, None, None]
