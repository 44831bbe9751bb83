"""A teacher's preprocessing of pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.errors import InputError
from spikeclip.records import read_json

_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]

_LARGEST = 4096
"""Side of a picture that a teacher may read, pixels."""


class Transform:
    """Preprocessing as `preprocessor_config.json` describes it: resize, centre crop, normalise."""

    def __init__(self, folder: Path, image_size: int, kind: str) -> None:
        """What the file leaves out has the default of Hugging Face's class for `kind`.

        Raises `InputError` where there is no such file, or one that does not describe the preprocessing.
        """
        try:
            self._read(_settings(folder), image_size, kind == "clip")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise InputError(f"{folder}: {error}") from error
            raise InputError(
                f"{folder}: preprocessor_config.json does not describe how pictures are prepared ({error!r:.80})"
            ) from error

    def _read(self, config: dict[str, Any], image_size: int, clip: bool) -> None:
        size = config.get("size", {"shortest_edge": image_size} if clip else [image_size, image_size])
        if isinstance(size, dict):
            size = size.get("shortest_edge") or [size["height"], size["width"]]
        crop = config.get("crop_size", image_size)
        self.image_size = image_size
        self.size: int | list[int] | None = size if config.get("do_resize", True) else None
        self.crop: int | None = None
        if config.get("do_center_crop", clip):
            self.crop = crop["height"] if isinstance(crop, dict) else crop
        sides = [*(self.size if isinstance(self.size, list) else [self.size, self.size]), self.crop]
        if len(sides) != 3 or not all(side is None or 1 <= int(side) <= _LARGEST for side in sides):
            raise InputError(
                f"size and crop_size must be pixels up to {_LARGEST:,}, got {size!r:.80} and {crop!r:.80}"
            )
        self.mode = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}.get(config.get("resample", 3))
        if self.mode is None:
            raise InputError(f"resampling filter {config['resample']} is not supported (2 and 3 are)")
        scale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
        normalise = config.get("do_normalize", True)
        mean = config.get("image_mean", _CLIP_MEAN if clip else [0.5] * 3) if normalise else [0.0] * 3
        std = config.get("image_std", _CLIP_STD if clip else [0.5] * 3) if normalise else [1.0] * 3
        self.mean_C = torch.tensor(mean) / scale
        self.std_C = torch.tensor(std) / scale
        if self.mean_C.shape != (3,) or self.std_C.shape != (3,) or not (self.std_C > 0).all():
            raise InputError(
                f"image_mean and image_std must be 3 numbers, the latter above 0; got {mean} and {std}"
            )
        what = (self.size, self.crop, self.mode, self.mean_C.tolist(), self.std_C.tolist())
        self.fingerprint = hashlib.sha256(repr(what).encode()).hexdigest()[:16]

    def __call__(self, images_NHWC: np.ndarray) -> Tensor:
        """Return pictures (N, H, W, 3) uint8 as pixel values (N, 3, image_size, image_size) float32."""
        x_NCHW = torch.from_numpy(np.ascontiguousarray(images_NHWC)).permute(0, 3, 1, 2)
        if self.size is not None:
            height, width = x_NCHW.shape[2:]
            short = min(height, width)
            size = self.size
            if isinstance(size, int):
                size = [int(size * height / short), int(size * width / short)]
            if tuple(size) != (height, width):  # on uint8, like Pillow, which rounds and clips
                antialias = {} if self.mode == "nearest-exact" else {"antialias": True}
                x_NCHW = F.interpolate(x_NCHW, tuple(size), mode=str(self.mode), **antialias)
        if self.crop is not None:
            top, left = ((side - self.crop) // 2 for side in x_NCHW.shape[2:])
            x_NCHW = x_NCHW[:, :, max(top, 0) :, max(left, 0) :][:, :, : self.crop, : self.crop]
        if x_NCHW.shape[2:] != (self.image_size, self.image_size):
            raise InputError(
                f"the teacher reads pictures of {self.image_size} pixels, but its preprocessing turns "
                f"{tuple(images_NHWC.shape[1:3])} into {tuple(x_NCHW.shape[2:])}; use square pictures"
            )
        return x_NCHW.float().sub_(self.mean_C[:, None, None]).div_(self.std_C[:, None, None]).contiguous()


def _settings(folder: Path) -> dict[str, Any]:
    """Return what a folder says of the preprocessing; with the defaults instead, a teacher loses points of accuracy."""
    for name, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        values = read_json(folder / name, default={})
        if values and (key is None or key in values):
            return values if key is None else values[key]
    raise InputError(
        "there is no preprocessor_config.json, so how the teacher's pictures are resized and normalised is not known: "
        "copy the file from where the model came from"
    )
