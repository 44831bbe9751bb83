"""A teacher's preprocessing of pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.errors import InputError
from spikeclip.records import read_json

_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


class Transform:
    """Preprocessing as `preprocessor_config.json` describes it: resize, centre crop, normalise."""

    def __init__(self, folder: Path, image_size: int, kind: str) -> None:
        """What the folder leaves out has the default of Hugging Face's class for `kind`."""
        config = read_json(folder / "preprocessor_config.json", default={})
        config = config or read_json(folder / "processor_config.json", default={}).get("image_processor", {})
        clip = kind == "clip"
        size = config.get("size", {"shortest_edge": image_size} if clip else [image_size, image_size])
        if isinstance(size, dict):
            size = size.get("shortest_edge") or [size["height"], size["width"]]
        crop = config.get("crop_size", image_size)
        self.image_size = image_size
        self.size: int | list[int] | None = size if config.get("do_resize", True) else None
        self.crop: int | None = None
        if config.get("do_center_crop", clip):
            self.crop = crop["height"] if isinstance(crop, dict) else crop
        self.mode = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}.get(config.get("resample", 3))
        if self.mode is None:
            raise InputError(
                f"{folder}: resampling filter {config['resample']} is not supported (2 and 3 are)"
            )
        scale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
        normalise = config.get("do_normalize", True)
        mean = config.get("image_mean", _CLIP_MEAN if clip else [0.5] * 3) if normalise else [0.0] * 3
        std = config.get("image_std", _CLIP_STD if clip else [0.5] * 3) if normalise else [1.0] * 3
        self.mean_C = torch.tensor(mean) / scale
        self.std_C = torch.tensor(std) / scale
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
