"""Event recordings arrive as counts of both polarities, frame by frame."""

import numpy as np
import pytest
from small_sources import png, write_events

from spikeclip.config import ImageFormat
from spikeclip.data import Pictures, load_pictures
from spikeclip.data.locate import find_source
from spikeclip.data.sheet import contact_sheet
from spikeclip.errors import InputError

FOUR = [(0, 1, 1, 0), (300, 17, 9, 1), (700, 17, 9, 1), (70000, 32, 32, 1)]


@pytest.fixture
def events(tmp_path):
    """A folder with two recordings of the classes 1 and 0, and one of random events."""
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 300_000, 5000))
    columns = (times, *rng.integers(0, 34, (2, 5000)), rng.integers(0, 2, 5000))
    random = list(zip(*(column.tolist() for column in columns), strict=True))
    write_events(tmp_path / "events/train.npz", [FOUR, [(0, 16, 16, 0)], random], [1, 0, 1])
    return tmp_path / "events"


def test_an_event_is_counted_at_its_pixel_polarity_and_frame(events, load):
    pictures = load(events, event_frames=2)
    assert pictures.images.shape == (3, 32, 32, 2, 2)
    assert pictures.images.dtype == np.uint8
    expected = np.zeros((32, 32, 2, 2))
    expected[0, 0, 0, 0] = 1  # the sensor's middle 32 pixels of 34
    expected[8, 16, 0, 1] = 2
    expected[31, 31, 1, 1] = 1
    assert np.array_equal(pictures.images[0], expected)
    assert pictures.images[1].sum() == pictures.images[1][15, 15, 0, 0] == 1
    assert pictures.labels.tolist() == [1, 0, 1]
    assert pictures.classnames == ["0", "1"]
    assert pictures.ids == ["train/0", "train/1", "train/2"]


def test_frames_add_up_to_the_one_frame_and_sizes_to_the_sensor(events, load):
    one = load(events, event_frames=1)
    assert one.images.shape == (3, 32, 32, 2)
    for frames in (2, 5, 300):
        several = load(events, event_frames=frames)
        assert np.array_equal(several.images[:].sum(3), one.images)
        assert several.fingerprint != one.fingerprint
    whole, wide = load(events, image_size=34, event_frames=1), load(events, image_size=40, event_frames=1)
    assert np.array_equal(whole.images[:][:, 1:33, 1:33], one.images)
    assert whole.images[2].sum() == 5000
    assert np.array_equal(np.pad(whole.images, ((0, 0), (3, 3), (3, 3), (0, 0))), wide.images)


def test_frames_are_equal_parts_of_a_recordings_own_length(tmp_path, load):
    recording = [(t, 9, 9, 1) for t in range(0, 6000, 10)]
    write_events(tmp_path / "set/test.npz", [recording, recording[:300]], [0, 0])
    counts = load(tmp_path / "set", "test", event_frames=3).images[:].sum((1, 2, 4))
    assert counts.tolist() == [[200, 200, 200], [100, 100, 100]]


def test_more_than_255_events_count_as_255(tmp_path, load):
    write_events(tmp_path / "set/test.npz", [[(t, 9, 9, 1) for t in range(300)]], [0])
    assert load(tmp_path / "set", "test", event_frames=1).images[:].max() == 255


def test_recordings_that_cannot_be_are_left_out_and_named(tmp_path):
    names = np.array([7, 3, 12])
    write_events(tmp_path / "set/train.npz", [[], FOUR, [(0, 34, 0, 1)]], [0, 1, 0], sample_id=names)
    with pytest.warns(
        UserWarning, match=r"2 pictures cannot be read and are left out: train/7 \(no events.*\), train/12 \("
    ):
        pictures = load_pictures(str(tmp_path / "set"), "train", ImageFormat(32, 1), cache=tmp_path / "cache")
    assert pictures.ids == ["train/3"]
    assert pictures.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"label": None}, "no array 'label'; expected x, y, p"),
        ({"offsets": np.array([0, 4])}, "events, offsets and labels do not fit"),
        ({"offsets": np.array([0, 9, 5])}, "events, offsets and labels do not fit"),
        ({"dt_hi": np.zeros(3, np.uint8)}, "events, offsets and labels do not fit"),
        ({"p": np.zeros(0, np.uint8)}, "events, offsets and labels do not fit"),
    ],
)
def test_files_that_do_not_fit_are_errors(tmp_path, load, arrays, message):
    write_events(tmp_path / "set/train.npz", [FOUR, FOUR[:1]], [1, 0], **arrays)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "set", event_frames=1)


def test_a_damaged_file_is_an_error(events, load):
    whole = (events / "train.npz").read_bytes()
    (events / "train.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="the recordings cannot be read"):
        load(events, event_frames=1)


def test_recordings_are_no_pictures_and_the_reverse(events, folder, load):
    with pytest.raises(InputError, match=r"holds event recordings: only a model with image\.event_frames"):
        load(events)
    for source in (folder, "shapes"):
        with pytest.raises(InputError, match=r"holds pictures, but a model with image\.event_frames"):
            load(source, event_frames=2)


def test_other_npz_files_are_no_recordings(tmp_path):
    np.savez(tmp_path / "table.npz", embeddings=np.zeros((2, 4)), texts=["a", "b"])
    with pytest.raises(InputError, match="found neither parquet files"):
        find_source(str(tmp_path))


def test_pictures_come_before_tables_beside_them(tmp_path):
    (tmp_path / "train/cat").mkdir(parents=True)
    (tmp_path / "train/cat/1.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    write_events(tmp_path / "test.npz", [FOUR], [0])
    source = find_source(str(tmp_path))
    assert (source.splits, source.events) == (["train"], False)


def test_a_sheet_shows_brighter_pixels_red_and_darker_ones_blue():
    counts = np.zeros((1, 4, 4, 2, 2), np.uint8)
    counts[0, 0, 0, :, 1], counts[0, 3, 3, 1, 0] = 2, 2
    (axes,) = contact_sheet(Pictures("set", "test", counts, ["a"], "", np.array([0]), ["zero"])).axes
    (image,) = (drawn.get_array() for drawn in axes.images)
    assert image[0, 0].tolist() == [255, 0, 0]
    assert image[3, 3].tolist() == [0, 0, 127]


def test_real_recordings(shared, load):
    pictures = load(shared / "nmnist_small", "test", event_frames=3)
    assert pictures.images.shape == (100, 32, 32, 3, 2)
    assert np.bincount(pictures.labels).tolist() == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
    assert pictures.ids[0] == "test/60001"
    # Three saccades of a third of a second's third each: every frame holds about as many events.
    counts = pictures.images[:]
    shares = counts.sum((1, 2, 4)) / counts.sum((1, 2, 3, 4))[:, None]
    assert (abs(shares.mean(0) - 1 / 3) < 0.1).all()
