import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_sources import noise, png

from spikeclip.data.decode import decode, decode_sized, square
from spikeclip.data.formats import FORMATS, UNREAD_ENDINGS


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


def encoded(picture, name, **options):
    file = io.BytesIO()
    picture.save(file, name, **options)
    return file.getvalue()


def raw_png(depth, colour, row, clear, palette=None):
    """A PNG of eight equal rows of eight pixels and a tRNS chunk, which Pillow cannot write at all depths."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, colour, 0, 0, 0))
    head += chunk(b"PLTE", palette) if palette else b""
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * 8))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"tRNS", clear) + pixels + chunk(b"IEND", b"")


def half_clear():
    """The left half red, the right half black and transparent."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = 200, 0, 0, 255
    return Image.fromarray(pixels)


GREY, RED = [200] * 3, [200, 0, 0]
CLEAR = {
    "RGBA of PNG": (encoded(half_clear(), "PNG"), RED),
    "RGBA of WebP": (encoded(half_clear(), "WEBP", lossless=True), RED),
    "RGBA of TIFF": (encoded(half_clear(), "TIFF"), RED),
    "GIF": (encoded(half_clear(), "GIF"), RED),
    "LA": (encoded(half_clear().convert("LA"), "PNG"), [60] * 3),
    "palette with alpha": (encoded(half_clear().quantize(4), "PNG"), RED),
    "palette and tRNS": (raw_png(8, 3, b"\0" * 4 + b"\1" * 4, b"\xff\0", bytes([200, 0, 0, 9, 9, 9])), RED),
    "RGB and tRNS": (raw_png(8, 2, bytes(RED) * 4 + bytes(12), bytes(6)), RED),
    "RGB of 16 bits and tRNS": (
        raw_png(
            16,
            2,
            struct.pack(">HHH", 51200, 0, 0) * 4 + struct.pack(">HHH", 513, 514, 515) * 4,
            b"\2\1\2\2\2\3",
        ),
        RED,
    ),
    "grey and tRNS": (raw_png(8, 0, bytes([200] * 4 + [7] * 4), b"\0\7"), GREY),
    "grey of 16 bits and tRNS": (raw_png(16, 0, b"\xc8\0" * 4 + b"\2\xbc" * 4, b"\2\xbc"), GREY),
    "grey of 2 bits and tRNS": (raw_png(2, 0, bytes([0b10101010, 0b01010101]), b"\0\1"), [170] * 3),
}


@pytest.mark.parametrize("kind", CLEAR)
def test_what_is_transparent_shows_white(kind):
    blob, left = CLEAR[kind]
    pixels = decode(blob, 8)
    assert (pixels[:, :4] == left).all()
    assert (pixels[:, 4:] == 255).all()


@pytest.mark.parametrize("mode", ["RGBa", "La", "PA"])
def test_transparency_of_pictures_in_memory(mode):
    straight = {"RGBa": half_clear(), "La": half_clear().convert("LA"), "PA": half_clear().quantize(4)}
    pixels = square(straight[mode].convert(mode), 8)
    assert (pixels[:, :4] == ([60] * 3 if mode == "La" else RED)).all()
    assert (pixels[:, 4:] == 255).all()


def test_half_transparent_pixels_are_mixed_with_white_before_they_are_resized():
    """The colour of a pixel that is transparent, here green, does not bleed into its neighbours."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[::2], pixels[1::2] = (200, 0, 0, 255), (0, 255, 0, 0)
    red, green, blue = square(Image.fromarray(pixels), 4)[2, 2]
    assert (red, green, blue) == pytest.approx((228, 128, 128), abs=2)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_all_orientations_stand_upright_in_every_format_that_has_them(name):
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32] = 255
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    for orientation, stored in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        quality = {"quality": 100} if name in ("JPEG", "WEBP", "AVIF") else {}
        blob = encoded(Image.fromarray(np.ascontiguousarray(stored)), name, exif=exif, **quality)
        assert np.abs(decode(blob, 32).astype(int) - upright[:, 16:48]).max() < 80, orientation


def test_a_damaged_exif_block_does_not_hide_the_picture():
    plain = Image.fromarray(noise(8))
    assert np.array_equal(decode(encoded(plain, "PNG", exif=b"Exif\0\0II*\0\xff\xff"), 32), noise(8))


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF", "TIFF", "MPO"])
def test_the_first_of_several_pictures_in_a_file_is_taken(name):
    red, green = Image.new("RGB", (8, 8), (200, 0, 0)), Image.new("RGB", (8, 8), (0, 200, 0))
    pixels = decode(encoded(red, name, save_all=True, append_images=[green]), 8)
    assert np.abs(pixels.astype(int) - RED).max() < 4


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk_shows_its_colours(name):
    pixels = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 55)), name), 8)
    assert np.abs(pixels.astype(int) - RED).max() < 6


def test_sixteen_bits_of_grey_in_every_format_that_has_them():
    grey = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    for blob in (encoded(grey, "PNG"), encoded(grey, "TIFF"), b"P5 8 8 65535\n" + b"\x80\0" * 64):
        assert (decode(blob, 8) == 0x80).all()


def test_numbers_without_a_known_range_are_not_guessed():
    blob = encoded(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF")
    assert decode(blob, 8).startswith("floating-point pixels, which have no known range")


@pytest.mark.parametrize("name", ["EPS", "PDF", "JPEG2000", "PCX", "TGA", "ICO", "SGI"])
def test_other_formats_are_not_opened_whatever_their_name(name, tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(noise(0)), name))
    assert decode(tmp_path / "a.jpg", 8).startswith("not a picture of a format that is read (JPEG, PNG,")


def test_the_endings_are_those_of_pillow():
    theirs = Image.registered_extensions()
    for name, format in FORMATS.items():
        assert set(format.endings) == {ending for ending, of in theirs.items() if of == name}
    assert not UNREAD_ENDINGS & {ending for format in FORMATS.values() for ending in format.endings}


@pytest.mark.parametrize(
    ("size", "progressive", "why"),
    [
        (
            (30_000, 30_000),
            True,
            "30,000 x 30,000 pixels, the bound is 60,000,000 pixels for JPEG in several scans",
        ),
        (
            (8000, 8001),
            True,
            "8,000 x 8,001 pixels, the bound is 60,000,000 pixels for JPEG in several scans",
        ),
        ((8000, 7500), True, None),
        ((30_000, 30_000), False, None),  # decoded at an eighth of each side
    ],
)
def test_the_bound_of_a_jpeg_is_that_of_the_size_at_which_it_is_decoded(size, progressive, why):
    blob = bytearray(encoded(Image.fromarray(noise(0)), "JPEG", progressive=progressive))
    frame = blob.find(b"\xff\xc2" if progressive else b"\xff\xc0")
    blob[frame + 5 : frame + 9] = struct.pack(">HH", size[1], size[0])
    pixels = decode(bytes(blob), 32)
    assert (pixels if isinstance(pixels, str) else None) == why


def test_a_webp_of_enormous_size_is_refused_by_its_header():
    blob = bytearray(encoded(half_clear(), "WEBP"))
    assert blob[12:16] == b"VP8X"
    blob[24:30] = (29_999).to_bytes(3, "little") * 2
    assert decode(bytes(blob), 32) == "30,000 x 30,000 pixels, the bound is 30,000,000 pixels for WEBP"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_large_pictures_are_reduced_to_what_a_resize_gives(mode):
    """Of 19 million pixels; the left third differs from the rest."""
    small = np.full((40, 48, 3), 30, np.uint8)
    small[:, :14] = noise(9, 14, 40)
    large = Image.fromarray(small).resize((4800, 4000), Image.Resampling.BICUBIC)
    large = large.convert("RGBA") if mode == "RGBA" else large.convert(mode)
    wanted = large.convert("RGB").resize((38, 32), Image.Resampling.BICUBIC).crop((3, 0, 35, 32))
    difference = np.abs(square(large, 32).astype(int) - np.asarray(wanted))
    assert difference.max() <= 6
    assert difference.mean() < 1


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "null.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to("nowhere")
    for name in ("pipe", "null", "folder"):
        assert decode(tmp_path / f"{name}.png", 8) == "not a regular file"
    assert decode(tmp_path / "gone.png", 8) == "no such file or directory"


def test_pillow_warns_of_nothing():
    """A size between Pillow's own two limits, and a palette that it would rather convert."""
    with warnings.catch_warnings(record=True) as caught:
        decode(
            raw_png(1, 0, bytes(1), b"\0\1").replace(
                b"\0\0\0\x08\0\0\0\x08", struct.pack(">II", 10_000, 10_000)
            ),
            8,
        )
        decode(CLEAR["palette and tRNS"][0], 8)
    assert not caught


@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (90, 60)), (3, (90, 60)), (6, (60, 90)), (8, (60, 90))]
)
def test_the_size_of_a_picture_is_that_of_what_one_sees(orientation, size):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(noise(3, 90, 60)).save(file, "JPEG", exif=exif)
    decoded = decode_sized(file.getvalue(), 32)
    assert (decoded.width, decoded.height) == size
    assert np.array_equal(decoded.pixels, decode(file.getvalue(), 32))
    assert "90 x 60 pixels, the bound is 5,399" in decode_sized(file.getvalue(), 32, most=5399)
    assert decode_sized(file.getvalue(), 32, most=5400).width == size[0]
