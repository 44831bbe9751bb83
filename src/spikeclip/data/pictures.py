"""Labelled and captioned pictures, or event recordings, of one split."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field

import numpy as np

from spikeclip.data.images import Images


@dataclass(frozen=True)
class Pictures:
    """Pictures of one split. Every picture has a label, captions, or both.

    images: (N, H, W, 3) uint8, square; of event recordings the counts of both polarities, (N, H, W, 2) or frame by
    frame (N, H, W, T, 2). An array that is passed for them becomes an `Images`. labels: (N,) int64 into `classnames`,
    or None. captions: one list of texts per picture, or None. ids: N names (path inside the source, or split/index).
    skipped: names of pictures that could not be read, with the reason; others: of files and folders that are none.
    fingerprint: hash of everything above.
    """

    name: str
    split: str
    images: Images
    ids: list[str]
    fingerprint: str
    labels: np.ndarray | None = None
    classnames: list[str] = field(default_factory=list)
    captions: list[list[str]] | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.images, np.ndarray):
            object.__setattr__(self, "images", Images([self.images]))

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: np.ndarray) -> Pictures:
        """Return the pictures at `indices` (K,), integers, as a new split; copies no picture."""
        indices = np.asarray(indices, np.int64)
        rows = indices.tolist()
        return dataclasses.replace(
            self,
            images=self.images.subset(indices),
            ids=[self.ids[i] for i in rows],
            fingerprint=hashlib.sha256(self.fingerprint.encode() + indices.tobytes()).hexdigest(),
            labels=None if self.labels is None else self.labels[indices],
            captions=None if self.captions is None else [self.captions[i] for i in rows],
        )


def validation_split(pictures: Pictures, fraction: float, seed: int = 0) -> tuple[Pictures, Pictures]:
    """Divide pictures into (train, validation), both in the original order.

    Validation is `fraction` of the pictures, the same share of each class, drawn by `seed`.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros(len(pictures), np.int64) if pictures.labels is None else pictures.labels
    chosen = np.zeros(len(pictures), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen[rng.permutation(members)[: round(fraction * len(members))]] = True
    return pictures.subset(np.flatnonzero(~chosen)), pictures.subset(np.flatnonzero(chosen))
