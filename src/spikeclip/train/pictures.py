"""The pictures of a run: those it learns from, and those it selects its weights by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spikeclip.config import ImageFormat, RunConfig
from spikeclip.data.mixture import join, split_sources
from spikeclip.data.pictures import Pictures


@dataclass(frozen=True)
class RunPictures:
    """Training and validation pictures; every dict has the keys "train" and "val".

    sources: the pictures source by source. splits: the same as one set. labels: (N,) int64 places in `classnames`;
    empty where the pictures have captions only. classnames: the classes that occur in training.
    """

    sources: dict[str, list[Pictures]]
    splits: dict[str, Pictures]
    labels: dict[str, Tensor]
    classnames: list[str]

    @property
    def labelled(self) -> bool:
        """Whether the training pictures have labels."""
        return len(self.labels["train"]) > 0


def load_run_pictures(config: RunConfig, format: ImageFormat) -> RunPictures:
    """Load the pictures of a run in the format that its model reads; raises `InputError` as `load_pictures` does."""
    trains, vals = split_sources(config.data, format, config.seed)
    sources = {"train": trains, "val": vals}
    splits = {split: join(parts) for split, parts in sources.items()}
    train = splits["train"]
    present = np.unique(train.labels) if train.labels is not None else np.empty(0, np.int64)
    labels = {
        split: torch.empty(0)
        if part.labels is None
        else torch.from_numpy(np.searchsorted(present, part.labels))
        for split, part in splits.items()
    }
    return RunPictures(sources, splits, labels, [train.classnames[i] for i in present])
