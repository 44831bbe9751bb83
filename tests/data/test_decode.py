import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_sources import noise, png

from spikeclip.data.decode import decode, square


def test_a_picture_that_fits_is_untouched():
    assert np.array_equal(square(Image.fromarray(noise(0)), 32), noise(0))


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 40),
    st.sampled_from(["RGB", "L", "RGBA", "P", "1", "CMYK"]),
)
@settings(max_examples=60, deadline=None)
def test_every_size_and_mode_becomes_a_square_of_rgb(width, height, image_size, mode):
    pixels = square(Image.fromarray(noise(1, width, height)).convert(mode), image_size)
    assert pixels.shape == (image_size, image_size, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize(("width", "height"), [(96, 32), (32, 96)])
def test_the_centre_is_kept_without_resampling_when_the_shorter_side_fits(width, height):
    pixels = noise(2, width, height)
    expected = pixels[:, 32:64] if width > height else pixels[32:64]
    assert np.array_equal(square(Image.fromarray(pixels), 32), expected)


def test_the_shorter_side_is_resized_bicubic():
    picture = Image.fromarray(noise(3, 120, 64))
    resized = picture.resize((60, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(square(picture, 32), np.asarray(resized)[:, 14:46])


def test_a_strip_is_cropped_before_it_is_resized():
    """Resized whole, this picture of 60 kB would need 9 GB."""
    pixels = square(Image.fromarray(np.full((1, 60_000, 3), 7, np.uint8)), 224)
    assert (pixels == 7).all()


def test_sixteen_bit_grey_is_scaled_not_clipped():
    grey = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert (square(grey, 8) == 0x80).all()


def test_turned_pictures_stand_upright():
    pixels = noise(4)
    exif = Image.Exif()
    exif[0x0112] = 3  # orientation: turned by 180 degrees
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    assert np.array_equal(decode(file.getvalue(), 32), pixels[::-1, ::-1])


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_never_raise(data):
    blob = bytearray(png(noise(5, 8, 8)))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    pixels = decode(bytes(blob[: data.draw(st.integers(0, len(blob)))]), 8)
    assert isinstance(pixels, str) or pixels.shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (b"", "an empty file"),
        (b"hello", "not a picture of a format that is read (JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM, AVIF)"),
        (png(noise(6))[:100], "damaged: image file is truncated"),
        (png(noise(6))[:-500], "damaged: image file is truncated"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC, which Pillow alone does not read: save it as JPEG"),
    ],
)
def test_unreadable_bytes_are_a_reason(blob, why):
    assert decode(blob, 32) == why


def test_a_path_is_read_and_a_missing_one_is_a_reason(tmp_path):
    (tmp_path / "a.png").write_bytes(png(noise(7)))
    assert np.array_equal(decode(tmp_path / "a.png", 32), noise(7))
    assert decode(tmp_path / "b.png", 32) == "no such file or directory"
