import numpy as np
import pytest

from spikeclip.errors import InputError
from spikeclip.evaluate.corruption import CORRUPTIONS, corrupt


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_strength_is_worse_than_the_one_before(kind, pictures):
    images = pictures.images[:8]
    before = images.copy()
    made = [corrupt(images, kind, strength) for strength in range(1, 6)]
    errors = [np.square(m.astype(float) - images).mean() for m in made]
    assert errors[0] > 0
    assert (np.diff(errors) > 0).all()
    assert all(m.shape == images.shape and m.dtype == np.uint8 for m in made)
    assert (images == before).all()
    assert (corrupt(images, kind, 3) == made[2]).all()


def test_noise_has_its_deviation_and_its_seed():
    grey = np.full((20, 32, 32, 3), 128, np.uint8)
    noisy = corrupt(grey, "noise", 5).astype(float) / 255
    assert (noisy - 128 / 255).std() == pytest.approx(0.10, rel=0.02)
    assert (corrupt(grey[:3], "noise", 5) == corrupt(grey, "noise", 5)[:3]).all()
    assert (corrupt(grey, "noise", 5, seed=1) != corrupt(grey, "noise", 5)).mean() > 0.9
    assert (noisy[0] != noisy[1]).mean() > 0.9


def test_blur_grows_with_the_picture():
    edge = np.zeros((1, 64, 64, 3), np.uint8)
    edge[:, :, 32:] = 255
    small = np.ascontiguousarray(edge[:, ::2, ::2])
    widths = [(np.ptp(np.flatnonzero((row > 5) & (row < 250))) + 1) for row in
              (corrupt(small, "blur", 5)[0, 0, :, 0], corrupt(edge, "blur", 5)[0, 0, :, 0])]  # fmt: skip
    assert widths[1] == pytest.approx(2 * widths[0], abs=2)


def test_mistakes(pictures):
    with pytest.raises(InputError, match="did you mean 'noise'"):
        corrupt(pictures.images, "nose", 1)
    with pytest.raises(InputError, match="strength must be from 1 to 5, got 0"):
        corrupt(pictures.images, "noise", 0)
