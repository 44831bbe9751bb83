"""Pictures to fit on and others: apart, from all sources, and from folders without classes."""

import numpy as np
import pytest
from PIL import Image

from spikeclip.convert.sample import Drawing, draw_samples
from spikeclip.errors import InputError


def grey(folder, values):
    folder.mkdir(parents=True)
    for value in values:
        Image.fromarray(np.full((20, 30, 3), value, np.uint8)).save(folder / f"{value}.png")


def values(sample):
    return sorted(int(picture[0, 0, 0]) for picture in sample.images)


def test_no_picture_is_on_both_sides(tmp_path):
    grey(tmp_path / "loose" / "inside", range(20))
    grey(tmp_path / "set" / "train" / "a", range(100, 110))
    grey(tmp_path / "set" / "train" / "b", range(110, 120))
    grey(tmp_path / "set" / "test" / "a", range(200, 220))
    sources = [str(tmp_path / "loose"), str(tmp_path / "set")]
    drawing = Drawing(limit=20, held_out=6, cache=tmp_path / "cache")
    fitted, compared = (values(sample) for sample in draw_samples(sources, 8, drawing))
    assert len(fitted) == 20
    assert len(compared) == 6
    assert not set(fitted) & set(compared)
    for found, half in ((fitted, 10), (compared, 3)):
        assert len([value for value in found if value < 100]) == half
        assert len([value for value in found if 100 <= value < 200]) == half
    again = draw_samples(sources, 8, drawing)
    assert [values(sample) for sample in again] == [fitted, compared]
    other = draw_samples(sources, 8, Drawing(limit=20, held_out=6, seed=1, cache=tmp_path / "cache"))
    assert other[0].fingerprint != again[0].fingerprint == draw_samples(sources, 8, drawing)[0].fingerprint


def test_of_few_pictures_a_fifth_is_held_out(tmp_path):
    grey(tmp_path / "few", range(10))
    fitted, compared = draw_samples([str(tmp_path / "few")], 8, Drawing())
    assert (len(fitted.images), len(compared.images)) == (8, 2)


def test_what_cannot_be_read_is_left_out_and_said(tmp_path):
    grey(tmp_path / "few", range(5))
    (tmp_path / "few" / "bad.png").write_bytes(b"\x89PNG and then nothing")
    with pytest.warns(UserWarning, match=r"1 unreadable pictures left out: .*bad\.png \("):
        fitted, compared = draw_samples([str(tmp_path / "few")], 8, Drawing())
    assert values(fitted) + values(compared) != []
    assert sorted(values(fitted) + values(compared)) == list(range(5))


def test_one_picture_is_too_few(tmp_path):
    grey(tmp_path / "one", [7])
    with pytest.raises(InputError, match="1 pictures are too few: some are fitted on, others compared"):
        draw_samples([str(tmp_path / "one")], 8, Drawing())
    with pytest.raises(InputError, match="does not exist"):
        draw_samples(["./none"], 8, Drawing())
