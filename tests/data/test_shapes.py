import numpy as np
import pytest

from spikeclip.data.shapes import BACKGROUNDS, COLOURS, HELD_OUT, PAIRS, SHAPES, SIZES, shapes
from spikeclip.errors import InputError


def test_about_a_fifth_of_the_pairs_is_held_out_and_none_of_a_colour_or_shape_is_lost():
    held = np.zeros((len(COLOURS), len(SHAPES)), int)
    held[np.divmod(HELD_OUT, len(SHAPES))] = 1
    assert len(PAIRS) == len(set(PAIRS)) == held.size == 64
    assert held.sum() == len(HELD_OUT) == 13
    assert set(held.sum(0)) == set(held.sum(1)) == {1, 2}


@pytest.mark.parametrize("split", ["train", "test"])
def test_held_out_pairs_are_neither_in_labels_nor_in_captions(split):
    pictures = shapes(split, count=4000)
    assert set(pictures.labels.tolist()) == set(range(64)) - set(HELD_OUT)
    held = [set(PAIRS[i].split()) for i in HELD_OUT]
    for text in {text for texts in pictures.captions for text in texts}:
        words = set(text.replace(",", "").split())
        assert not any(pair <= words for pair in held), text


def test_the_heldout_split_holds_them_all_and_nothing_else():
    pictures = shapes("heldout")
    assert np.unique(pictures.labels).tolist() == HELD_OUT
    assert set(np.bincount(pictures.labels)[HELD_OUT]) == {76, 77}


def test_captions_say_what_the_label_says():
    pictures = shapes("test", count=500)
    for label, texts in zip(pictures.labels, pictures.captions, strict=True):
        colour, shape = PAIRS[label].split()
        assert len(texts) == 3
        assert all({colour, shape} <= set(text.replace(",", "").split()) for text in texts)
        assert any(size in texts[0] for size in SIZES)
        assert any(f"on a {name} background" in texts[0] for name in BACKGROUNDS)


def test_captions_say_what_the_picture_shows():
    """The ink's centre of mass, amount and colour are measured and compared with the words."""
    pictures = shapes("test", count=600)
    area = {}
    for image, label, texts in zip(
        pictures.images[:].astype(float), pictures.labels, pictures.captions, strict=True
    ):
        paper = next(rgb for name, rgb in BACKGROUNDS.items() if f"on a {name} background" in texts[0])
        colour, shape = PAIRS[label].split()
        corners = np.median(image[[0, 0, -1, -1], [0, -1, 0, -1]], axis=0)
        assert np.abs(corners - paper).max() < 25
        ink = np.linalg.norm(image - corners, axis=-1) > 40
        y, x = np.argwhere(ink).mean(0) / 31 - 0.5
        assert ("left" in texts[0], "right" in texts[0]) == (x < -0.1, x > 0.1)
        assert ("top" in texts[0], "bottom" in texts[0]) == (y < -0.1, y > 0.1)
        full = np.linalg.norm(image - COLOURS[colour], axis=-1).min()
        assert full < 60
        area.setdefault(shape, {}).setdefault(texts[0].split()[1], []).append(ink.sum())
    for sizes in area.values():
        assert (
            np.max(sizes["small"])
            < np.min(sizes["medium"])
            < np.mean(sizes["medium"])
            < np.min(sizes["large"])
        )


def test_equal_arguments_give_equal_pictures_and_leave_the_global_generator_alone():
    state = np.random.get_state()[1].copy()
    a, b = shapes("train", count=50), shapes("train", count=50)
    assert np.array_equal(a.images, b.images)
    assert (a.captions, a.fingerprint) == (b.captions, b.fingerprint)
    assert np.array_equal(state, np.random.get_state()[1])


def test_seeds_and_splits_differ():
    train = shapes("train", count=50)
    for other in (shapes("train", count=50, seed=1), shapes("test", count=50)):
        assert not np.array_equal(train.images, other.images)
        assert train.captions != other.captions
        assert train.fingerprint != other.fingerprint


def test_no_picture_of_train_is_in_test():
    train, test = ({image.tobytes() for image in shapes(split).images} for split in ("train", "test"))
    assert (len(train), len(test)) == (12_000, 2_000)
    assert not train & test


def test_other_sizes():
    pictures = shapes("test", count=5, image_size=64)
    assert pictures.images.shape == (5, 64, 64, 3)
    assert pictures.images.dtype == np.uint8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "trian"}, r"unknown split of shapes 'trian'; did you mean 'train'\?"),
        ({"split": "train", "count": 0}, "count=0"),
        ({"split": "train", "image_size": 4}, "image_size=4"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(InputError, match=message):
        shapes(**options)
