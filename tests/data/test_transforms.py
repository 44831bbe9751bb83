import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_sources import noise

from spikeclip.config import AugmentConfig, ImageConfig
from spikeclip.data import Draws, augment, normalize, preprocess
from spikeclip.errors import InputError


def batch(count, height=12, width=12):
    """Pictures in which every pixel has its own value, so that it can be followed."""
    pixels = torch.arange(height * width * 3).reshape(1, height, width, 3) % 251
    return (pixels + torch.arange(count)[:, None, None, None]).to(torch.uint8)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(count, seed=0, epoch=0):
    return Draws(seed, epoch, torch.arange(count))


def reference(image, crop):
    """Every crop of a reflect-padded picture, by offset; NumPy's padding is the specification."""
    height, width, _ = image.shape
    padded = np.pad(image, ((crop, crop), (crop, crop), (0, 0)), mode="reflect")
    steps = range(2 * crop + 1)
    return {(y, x): padded[y : y + height, x : x + width] for y in steps for x in steps}


@given(st.integers(1, 5), st.integers(6, 12), st.integers(6, 12), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_crop_is_a_window_of_the_reflected_picture(crop, height, width, seed):
    images = batch(6, height, width)
    out = augment(images, AugmentConfig(crop=crop, flip="none"), draws(6, seed))
    for before, after in zip(images.numpy(), out.numpy(), strict=True):
        assert any(np.array_equal(after, window) for window in reference(before, crop).values())


def test_every_crop_occurs():
    images = batch(1).expand(600, -1, -1, -1)
    out = augment(images, AugmentConfig(crop=2, flip="none"), draws(600)).numpy()
    windows = {window.tobytes() for window in reference(images[0].numpy(), 2).values()}
    assert len(windows) == 25
    assert {image.tobytes() for image in out} == windows


def test_random_flips_are_mirror_images_about_half_of_the_time():
    images = batch(400)
    out = augment(images, AugmentConfig(crop=0, flip="random"), draws(400))
    kept = (out == images).flatten(1).all(1)
    flipped = (out == images.flip(2)).flatten(1).all(1)
    assert (kept ^ flipped).all()
    assert 150 < flipped.sum() < 250


def test_alternate_flips_each_picture_in_every_second_epoch_wherever_it_stands_in_a_batch():
    images, indices = batch(400), torch.arange(1000, 1400)
    config = AugmentConfig(crop=0, flip="alternate")
    epochs = [augment(images, config, Draws(epoch, epoch, indices)) for epoch in range(3)]
    flipped = (epochs[0] == images.flip(2)).flatten(1).all(1)
    assert 150 < flipped.sum() < 250
    assert 50 < (flipped[1:] == flipped[:-1]).sum() < 350  # no simple pattern along the data set
    assert torch.equal(epochs[1], torch.where(flipped[:, None, None, None], images, images.flip(2)))
    assert torch.equal(epochs[2], epochs[0])
    order = torch.randperm(400, generator=rng(5))
    assert torch.equal(augment(images[order], config, Draws(6, 0, indices[order])), epochs[0][order])


@pytest.mark.parametrize("count", [1, 3])
def test_every_picture_needs_an_index(count):
    with pytest.raises(ValueError, match=f"indices of 2 pictures, got {count}"):
        augment(batch(2), AugmentConfig(flip="alternate"), draws(count))


def test_cutout_fills_one_square_with_the_mean():
    images = torch.full((300, 12, 10, 3), 255, dtype=torch.uint8)
    out = augment(images, AugmentConfig(crop=0, flip="none", cutout=4), draws(300), mean=(0.0, 0.5, 0.2))
    hole = (out == torch.tensor([0, 128, 51])).all(-1)
    assert ((out == 255).all(-1) ^ hole).all()
    rows, columns = hole.any(2), hole.any(1)
    assert (rows.sum(1) == 4).all()
    assert (columns.sum(1) == 4).all()
    assert (hole.sum((1, 2)) == 16).all()
    assert rows.any(0).all()
    assert columns.any(0).all()


def test_all_frames_of_a_recording_are_treated_alike():
    frames_TBHWC = torch.stack([batch(20)[..., :2], batch(20)[..., 1:]])
    config, mean = AugmentConfig(crop=3, flip="random", cutout=4), (0.0, 0.0)
    whole = augment(frames_TBHWC.movedim(0, 3), config, draws(20), mean=mean)
    for frame, expected in zip(whole.unbind(3), frames_TBHWC, strict=True):
        assert torch.equal(frame, augment(expected, config, draws(20), mean=mean))


def test_nothing_to_do_is_the_identity_and_the_input_is_never_written():
    images = batch(5)
    before = images.clone()
    assert torch.equal(augment(images, AugmentConfig(crop=0, flip="none"), draws(5)), before)
    out = augment(images, AugmentConfig(crop=3, flip="random", cutout=5), draws(5))
    assert torch.equal(images, before)
    assert out.dtype == torch.uint8
    assert out.shape == images.shape


def test_seed_and_epoch_decide_and_the_global_generator_is_left_alone():
    images, config = batch(50), AugmentConfig(crop=2, flip="random", cutout=4)
    state = torch.get_rng_state()
    a, b, c = (augment(images, config, draws(50, seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert not torch.equal(a, augment(images, config, draws(50, 1, epoch=1)))
    assert torch.equal(state, torch.get_rng_state())


@given(
    st.builds(
        AugmentConfig,
        crop=st.integers(0, 9),
        flip=st.sampled_from(["none", "random", "alternate"]),
        cutout=st.integers(0, 10),
    ),
    st.sampled_from([(3,), (2,), (4, 2)]),
    st.integers(0, 2**62),
    st.integers(0, 300),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_a_picture_is_changed_in_the_same_way_in_every_batch(config, inner, seed, epoch, indices):
    """Pictures, recordings of one frame and of several."""
    images = torch.randint(0, 256, (len(indices), 10, 12, *inner), generator=rng()).to(torch.uint8)
    indices, mean = torch.tensor(indices), (0.2, 0.4, 0.6)[: inner[-1]]
    whole = augment(images, config, Draws(seed, epoch, indices), mean)
    alone = [
        augment(image[None], config, Draws(seed, epoch, index[None]), mean)
        for image, index in zip(images, indices, strict=True)
    ]
    assert torch.equal(whole, torch.cat(alone))


@pytest.mark.parametrize("config", [AugmentConfig(crop=12), AugmentConfig(crop=-1), AugmentConfig(cutout=13)])
def test_crops_that_do_not_fit_are_errors(config):
    with pytest.raises(InputError, match=r"must be from 0 to 1[12] pixels"):
        augment(batch(2), config, draws(2))


def test_normalize_is_the_formula_in_channels_last_memory():
    images = batch(4)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    out = normalize(images, mean, std)
    expected = (images.double() / 255 - torch.tensor(mean).double()) / torch.tensor(std).double()
    assert out.shape == (4, 3, 12, 12)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out.permute(0, 2, 3, 1).double(), expected, atol=2e-6, rtol=0)


def test_counts_of_events_stay_counts_with_the_frames_behind_the_batch():
    recordings = torch.randint(0, 256, (4, 12, 12, 5, 2), generator=rng()).to(torch.uint8)
    out = normalize(recordings, *ImageConfig(event_frames=5).normalization)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, recordings.permute(0, 3, 4, 1, 2).float())
    with pytest.raises(InputError, match="expected pictures of 3 channels, got 2"):
        normalize(recordings, *ImageConfig().normalization)


def test_preprocess_prepares_single_pictures_as_a_data_set_is():
    pictures = [Image.fromarray(noise(0)), Image.fromarray(noise(1)).convert("L")]
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    out = preprocess(pictures, 32, mean, std)
    assert torch.equal(out[:1], normalize(torch.from_numpy(noise(0))[None], mean, std))
    assert torch.equal(out[1, 0], out[1, 2])
    assert preprocess([Image.new("RGB", (70, 50))], 32, mean, std).shape == (1, 3, 32, 32)
    with pytest.raises(InputError, match="no pictures"):
        preprocess([], 32, mean, std)
