"""What a teacher's network multiplies, as PyTorch's FLOP counter sees its matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from spikeclip.teacher.base import Teacher


def count_macs(teacher: Teacher, image_HWC: np.ndarray, texts: Sequence[str]) -> tuple[int, int]:
    """Return the multiply-accumulates of a picture (uint8), resized as the teacher wants it, and of the mean text.

    Every text runs by itself, so none pays for the padding of another. Raises `InputError` for a teacher of texts
    alone.
    """
    image = _macs(lambda: teacher.encode_image(np.array(image_HWC)[None]))
    return image, round(
        sum(_macs(lambda text=text: teacher.encode_text([text])) for text in texts) / len(texts)
    )


def _macs(run: Callable[[], object]) -> int:
    # The fused attention kernel of CPUs is none that the counter knows; in plain products it sees the same operations.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2  # PyTorch counts a multiply-accumulate as two
