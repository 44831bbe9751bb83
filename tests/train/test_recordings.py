"""Towers learn from event recordings and the names of their classes."""

import numpy as np
import pytest
import torch

from spikeclip.config import ImageFormat
from spikeclip.data import normalize
from spikeclip.model import from_pretrained

T = 5
# The batch is smaller than T, so that the two cannot be taken for each other.
CONTRASTIVE = {
    "stage": "contrastive",
    "batch_size": 4,
    "epochs": 5,
    "optimizer": {"lr": 0.03},
    "logit_scale": 10.0,
    "augment": {"crop": 1, "flip": "none"},
}


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """A folder of events all over the sensor: first the brighter, then the darker, or the reverse (class 1)."""
    folder, rng, events = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0), 900
    for split, count in (("train", 40), ("test", 20)):
        labels = np.arange(count) % 2
        t_NE = np.sort(rng.integers(0, 60_000, (count, events)))
        brighter_NE = (t_NE < 30_000) ^ labels[:, None].astype(bool)
        dt = np.diff(t_NE, axis=1, prepend=0).ravel()
        x, y = rng.integers(0, 34, (2, count * events)).astype(np.uint8)
        np.savez(
            folder / f"{split}.npz",
            x=x,
            y=y,
            p=np.packbits(brighter_NE.ravel()),
            dt_lo=(dt & 255).astype(np.uint8),
            dt_hi=(dt >> 8).astype(np.uint8),
            offsets=events * np.arange(count + 1),
            label=labels.astype(np.uint8),
        )
    return folder


@pytest.fixture
def changes(recordings):
    """Return the changes of a run on the recordings, each of which is summed into `frames`."""

    def make(frames):
        image = {"widths": [8, 8], "event_frames": frames}
        return {
            "model": {"neuron": "lif", "T": T, "v_threshold": 0.5, "embed_dim": 16, "image": image},
            "data": {"source": str(recordings), "classnames": {"0": "dimming", "1": "dawning"}},
            "teacher": False,
        }

    return make


@pytest.mark.parametrize(("frames", "right"), [(T, True), (1, False)])
def test_what_comes_first_is_seen_where_frames_are_steps_of_time(run, changes, frames, right):
    result, folder = run(CONTRASTIVE, test=True, **changes(frames))
    assert (result["test"]["metrics"]["acc1"] > 0.9) == right
    assert result["test"]["provenance"]["prompts"]["classnames"] == ["dimming", "dawning"]
    assert from_pretrained(folder / "model").config.image.event_frames == frames


def test_whitening_takes_every_frame_for_a_picture(prepared, changes):
    made = prepared(CONTRASTIVE, format=ImageFormat(32, T), **changes(T))
    model = made.model
    x_NTCHW = normalize(
        torch.from_numpy(np.array(made.pictures.splits["train"].images)), *model.config.image.normalization
    )
    whitened = model.image.whiten(x_NTCHW.flatten(0, 1))[:, :8]
    covariance = torch.cov(whitened.transpose(0, 1).flatten(1))
    torch.testing.assert_close(covariance, torch.eye(8), rtol=0, atol=0.02)
