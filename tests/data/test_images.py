"""A view over arrays is what the same operations on copied arrays give, and it copies no pixels by itself."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeclip.data import Images, Pictures
from spikeclip.data.mixture import join
from spikeclip.data.pictures import validation_split


def pixels(count, first=0, shape=(2, 2, 3)):
    """Pictures that all differ."""
    values = np.arange(first, first + count * int(np.prod(shape))) % 251
    return values.astype(np.uint8).reshape(count, *shape)


@st.composite
def pairs(draw, depth=3):
    """A view and the array that it stands for: sources, joined sets, subsets, and subsets of those."""
    kind = draw(st.sampled_from(["source", "join", "subset"])) if depth else "source"
    if kind == "source":
        array = pixels(draw(st.integers(0, 6)), draw(st.integers(0, 250)))
        return Images([array]), array
    if kind == "join":
        parts = draw(st.lists(pairs(depth=depth - 1), min_size=1, max_size=3))
        return Images.join([view for view, _ in parts]), np.concatenate([array for _, array in parts])
    view, array = draw(pairs(depth=depth - 1))
    chosen = draw(places(len(array)))
    return view.subset(chosen), array[chosen]


def places(count):
    """Indices into `count` pictures: integers of both signs, of any length, or booleans."""
    inside = st.integers(-count, max(count - 1, -count))
    integers = st.lists(inside, max_size=8 if count else 0).map(lambda rows: np.array(rows, np.int64))
    booleans = st.lists(st.booleans(), min_size=count, max_size=count).map(lambda rows: np.array(rows, bool))
    return st.one_of(integers, booleans)


@given(pairs(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_view_is_what_copied_arrays_are(pair, data):
    view, array = pair
    assert (len(view), view.shape, view.dtype) == (len(array), array.shape, array.dtype)
    keys = st.one_of(places(len(array)), st.slices(len(array)), places(len(array)).map(np.ndarray.tolist))
    for key in (data.draw(keys), slice(None)):
        found = view[key]
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.uint8
        assert np.array_equal(found, array[key])
    assert np.array_equal(np.asarray(view), array)
    assert np.array_equal(np.array(view, np.float32), array.astype(np.float32))
    assert all(map(np.array_equal, view, array))
    for i in range(-len(array), len(array)):
        assert np.array_equal(view[i], array[i])
        assert np.array_equal(view[np.int64(i)], array[i])


@given(pairs())
@settings(deadline=None)
def test_a_place_that_does_not_exist_is_an_index_error(pair):
    view, array = pair
    count = len(array)
    for key in (count, -count - 1, [0, count], np.array([-count - 1]), np.ones(count + 1, bool)):
        with pytest.raises(IndexError):
            view[key]
        with pytest.raises(IndexError):
            view.subset(key)
    for key in (None, np.zeros((1, 1), np.int64)[:, :0], (slice(None), 0)):
        with pytest.raises(IndexError):
            view[key]


def test_one_array_is_read_where_it_lies():
    array = pixels(9)
    view = Images([array])
    assert np.shares_memory(view[2:5], array)
    assert np.shares_memory(view[::-2], array)
    assert np.shares_memory(view[3], array)
    assert np.shares_memory(np.asarray(view), array)
    assert np.shares_memory(view.subset([4, 1])[1], array)
    assert not np.shares_memory(np.array(view), array)
    with pytest.raises(ValueError, match="without a copy"):
        view.subset([1]).__array__(copy=False)


def test_recordings_have_one_more_axis():
    arrays = [pixels(3, shape=(4, 4, 5, 2)), pixels(2, 7, (4, 4, 5, 2))]
    view = Images(arrays)
    assert view.shape == (5, 4, 4, 5, 2)
    assert np.array_equal(view[[4, 0]], np.concatenate(arrays)[[4, 0]])


def test_arrays_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match=r"uint8 \(1, 2, 2, 3\), uint8 \(1, 4, 4, 3\)"):
        Images([pixels(1), pixels(1, shape=(4, 4, 3))])
    with pytest.raises(ValueError, match="one type"):
        Images([pixels(1), pixels(1).astype(np.float32)])


def test_joining_and_splitting_sets_copies_no_pictures(tmp_path):
    count, shape = 200, (64, 64, 3)
    parts = []
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", pixels(count, len(parts), shape))
        mapped = np.load(tmp_path / f"{name}.npy", mmap_mode="c")
        ids = [f"{i}.png" for i in range(count)]
        parts.append(Pictures(name, "train", mapped, ids, name, np.arange(count) % 2, ["x", "y"]))
    sources = [part.images.sources[0] for part in parts]
    tracemalloc.start()
    try:
        whole = join(parts)
        train, val = validation_split(whole, 0.25)
        odd = train.subset(np.flatnonzero(train.labels == 1))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < sources[0].nbytes / 10
    for pictures in (whole, train, val, odd):
        assert all(a is b for a, b in zip(pictures.images.sources, sources, strict=True))
    expected = np.concatenate(sources)
    assert np.array_equal(whole.images, expected)
    for pictures in (train, val, odd):
        rows = [whole.ids.index(key) for key in pictures.ids]
        assert np.array_equal(pictures.images, expected[rows])
        assert np.array_equal(pictures.labels, whole.labels[rows])


def test_an_array_becomes_a_view():
    array = pixels(2)
    pictures = Pictures("set", "train", array, ["a", "b"], "")
    assert isinstance(pictures.images, Images)
    assert pictures.images.sources == (array,)
