"""RandAugment's operations against Pillow's, and mixtures: each picture by its own draws, whoever is beside it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from small_sources import noise

from spikeclip.config import AugmentConfig
from spikeclip.data.colour import OPERATIONS, recolour
from spikeclip.data.draws import Draws
from spikeclip.data.mix import mix, partners
from spikeclip.errors import InputError

ENHANCE = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
    "sharpness": ImageEnhance.Sharpness,
}


def pictures(count, seed=0, low=0, high=256):
    """Noise on a slope, as pictures have light and dark parts."""
    generator = torch.Generator().manual_seed(seed)
    slope = torch.linspace(low, high - 60, 20)[None, :, None, None]
    noise = torch.randint(0, 60, (count, 20, 16, 3), generator=generator)
    return (slope + noise).clamp(0, 255).to(torch.uint8)


def applied(name, images_BHWC, amount):
    amounts_B111 = torch.full((len(images_BHWC), 1, 1, 1), amount)
    return OPERATIONS[name](images_BHWC.float(), amounts_B111).round().clamp(0, 255)


def by_pillow(change, images_BHWC):
    return torch.stack(
        [torch.from_numpy(np.array(change(Image.fromarray(x)))) for x in images_BHWC.numpy()]
    ).float()


@pytest.mark.parametrize("name", ENHANCE)
@pytest.mark.parametrize("amount", [-1.0, -0.4, 0.0, 0.6])
def test_contrasts_are_pillows(name, amount):
    images = pictures(3)
    wanted = by_pillow(lambda x: ENHANCE[name](x).enhance(1 + 0.9 * amount), images)
    assert (applied(name, images, amount) - wanted).abs().max() <= 2  # it rounds what it starts from too


@pytest.mark.parametrize(
    ("name", "amount", "change"),
    [
        ("posterise", -0.5, lambda x: ImageOps.posterize(x, 6)),
        ("posterise", 1.0, lambda x: ImageOps.posterize(x, 4)),
        ("solarise", 0.25, lambda x: ImageOps.solarize(x, 192)),
        ("equalise", 0.3, ImageOps.equalize),
    ],
)
def test_what_pillow_does_by_tables_is_the_same(name, amount, change):
    for images in (pictures(4), pictures(4, low=90, high=170), torch.from_numpy(noise(0))[None]):
        assert torch.equal(applied(name, images, amount), by_pillow(change, images))


def test_autocontrast_is_pillows():
    images = pictures(4, low=60, high=190)
    difference = (applied("autocontrast", images, 0.3) - by_pillow(ImageOps.autocontrast, images)).abs()
    assert difference.max() <= 1  # Pillow's table is cut off, not rounded


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_picture_of_one_colour_stays_in_range(name):
    images = torch.full((2, 20, 16, 3), 77, dtype=torch.uint8)
    made = applied(name, images, 0.5)
    assert torch.isfinite(made).all()
    if name not in ("brightness", "solarise", "posterise"):
        assert torch.equal(made, images.float())


@given(
    st.integers(1, 3),
    st.floats(0, 1),
    st.integers(0, 2**62),
    st.integers(0, 300),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=6),
)
@settings(max_examples=25, deadline=None)
def test_a_picture_is_recoloured_in_the_same_way_in_every_batch(count, strength, seed, epoch, indices):
    images, indices = pictures(len(indices)), torch.tensor(indices)
    whole = recolour(images, count, strength, Draws(seed, epoch, indices))
    alone = [
        recolour(image[None], count, strength, Draws(seed, epoch, index[None]))
        for image, index in zip(images, indices, strict=True)
    ]
    assert (whole.int() - torch.cat(alone).int()).abs().max() <= 1  # a mean may round otherwise
    assert whole.dtype == torch.uint8


def test_every_operation_occurs_and_some_pictures_stay():
    images = pictures(1).expand(600, -1, -1, -1)
    made = recolour(images, 1, 0.5, Draws(0, 0, torch.arange(600)))
    found = {image.numpy().tobytes() for image in made}
    wanted = {images[0].numpy().tobytes()}
    for name in OPERATIONS:
        for amount in (-0.5, 0.5):
            wanted.add(applied(name, images[:1], amount)[0].to(torch.uint8).numpy().tobytes())
    assert found == wanted
    assert len(found) == 13  # four have two directions


def test_event_recordings_have_no_colours():
    with pytest.raises(InputError, match=r"augment\.colour works on pictures of 3 channels"):
        recolour(torch.zeros(2, 8, 8, 2, dtype=torch.uint8), 1, 0.3, Draws(0, 0, torch.arange(2)))


def test_partners_are_any_samples_and_not_those_beside():
    drawn = partners(Draws(3, 1, torch.arange(5000)), 7)
    assert drawn.unique().tolist() == list(range(7))
    assert torch.equal(drawn[100:200], partners(Draws(3, 1, torch.arange(100, 200)), 7))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("shape", [(3, 12, 10), (4, 2, 12, 10)])
def test_a_mixture_has_the_share_of_each_that_it_says(kind, shape):
    config = AugmentConfig(mix=kind, mix_share=0.6)
    draws = Draws(0, 2, torch.arange(400))
    made, share = mix(torch.ones(400, *shape), torch.zeros(400, *shape), config, draws)
    torch.testing.assert_close(made.flatten(1).mean(1), share)
    assert 0.3 < (share == 1).float().mean() < (0.5 if kind == "mixup" else 0.6)
    assert share.min() < 0.3
    if kind == "cutmix":
        assert set(made.unique().tolist()) == {0.0, 1.0}
        hole = made.flatten(1, -3)[:, 0] == 0
        rows, columns = hole.any(2), hole.any(1)
        assert torch.equal(hole, rows[:, :, None] & columns[:, None, :])  # one rectangle
    else:
        assert (share[share < 1].mean() - 0.5).abs() < 0.06
    parts = [
        mix(torch.ones(200, *shape), torch.zeros(200, *shape), config, Draws(0, 2, half))
        for half in torch.arange(400).chunk(2)
    ]
    assert torch.equal(made, torch.cat([part for part, _ in parts]))
