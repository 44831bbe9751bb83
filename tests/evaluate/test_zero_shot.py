import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeclip.data.transforms import normalize
from spikeclip.encode.embed import embed_pictures, embed_texts, equal_rows, zero_shot_classifier
from spikeclip.encode.student import Student
from spikeclip.errors import InputError
from spikeclip.evaluate import zero_shot_metrics
from spikeclip.teacher import Teacher


class Words(Teacher):
    """A teacher that knows four texts, not all of unit length."""

    name, dim, fingerprint = "words", 2, "0"

    def encode_text(self, texts):
        known = {"a cat": (2, 0), "cat": (0, 1), "a dog": (0, -3), "dog": (0, -1)}
        return np.array([known[text] for text in texts], np.float32)


def test_ensemble_normalises_averages_and_normalises_again():
    classes = zero_shot_classifier(Words(), ["cat", "dog"], ["a {c}", "{c}"])
    half = math.sqrt(0.5)
    np.testing.assert_allclose(classes, [[half, half], [0.0, -1.0]], rtol=1e-6, atol=1e-6)
    assert classes.dtype == np.float32


def test_ensemble_of_a_model_equals_the_formula(model):
    student = Student(model, batch_size=3)
    classes = zero_shot_classifier(student, ["red circle", "blue_bar"], ["a {c}.", "the {c} there"])
    for place, name in enumerate(["red circle", "blue bar"]):
        tokens = model.tokenize([f"a {name}.", f"the {name} there"])
        with torch.no_grad():
            expected = F.normalize(model.encode_text(tokens, normalize=True).mean(0), dim=0)
        torch.testing.assert_close(torch.from_numpy(classes[place]), expected)


def test_every_module_gets_its_mode_back(model, pictures):
    model.train()
    model.text.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    zero_shot_classifier(Student(model), ["red circle"], ["a {c}"])
    embed_pictures(Student(model), pictures)
    assert model.training
    assert model.image.training
    assert not model.text.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_embeddings_do_not_depend_on_the_batch(model, pictures):
    student = Student(model)
    whole, parts = (torch.from_numpy(embed_pictures(student, pictures, size)) for size in (256, 7))
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(len(pictures)))
    settings = model.config.image
    with torch.no_grad():
        expected = model.encode_image(
            normalize(torch.from_numpy(pictures.images[:5]), settings.mean, settings.std), normalize=True
        )
    torch.testing.assert_close(whole[:5], expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(embed_pictures(student, pictures.images), whole, rtol=1.3e-6, atol=1e-5)


def test_read_only_pictures_are_fine(model, pictures):
    images = pictures.images[:].view()
    images.flags.writeable = False
    frozen = type(pictures)("p", "test", images, pictures.ids, "0", pictures.labels, pictures.classnames)
    assert embed_pictures(Student(model), frozen).shape == (len(pictures), 16)


def test_no_pictures(model):
    assert embed_pictures(Student(model), np.empty((0, 32, 32, 3), np.uint8)).shape == (0, 16)


def test_pictures_of_another_size(model):
    with pytest.raises(InputError, match=r"expected images of shape \(B, 3, 32, 32\), got \(2, 3, 16, 16\)"):
        embed_pictures(Student(model), np.zeros((2, 16, 16, 3), np.uint8))


def test_a_text_teacher_has_no_pictures(pictures):
    with pytest.raises(InputError, match="embeds text only"):
        embed_pictures(Words(), pictures)


def test_no_texts(model):
    with pytest.raises(InputError, match="no texts"):
        embed_texts(Student(model), [])


# Six classes, three pictures: the first right, the second right at the fourth place, the third last of all.
IMAGES = torch.tensor([[9.0, 1, 2, 3, 4, 5], [1, 9, 8, 7, 3, 2], [0, 5, 4, 3, 2, 1]])


def test_metrics_by_hand():
    metrics = zero_shot_metrics(IMAGES, np.array([0, 4, 0]), torch.eye(6))
    assert metrics["acc1"] == pytest.approx(1 / 3)
    assert metrics["acc5"] == pytest.approx(2 / 3)
    assert metrics["mean_per_class_recall"] == pytest.approx((1 / 2 + 0) / 2)


def test_acc5_needs_five_classes():
    images = torch.eye(4)
    assert math.isnan(zero_shot_metrics(images, torch.tensor([0, 1, 2, 3]), torch.eye(4))["acc5"])
    assert zero_shot_metrics(torch.eye(5), torch.arange(5), torch.eye(5))["acc5"] == 1


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 40))
def test_metrics_against_counting(seed, classes, count):
    rng = np.random.default_rng(seed)
    logits, labels = (
        rng.permuted(np.tile(np.arange(classes), (count, 1)), axis=1),
        rng.integers(classes, size=count),
    )
    metrics = zero_shot_metrics(torch.from_numpy(logits).float(), labels, torch.eye(classes))
    right = logits.argmax(1) == labels
    assert metrics["acc1"] == pytest.approx(right.mean())
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    assert metrics["mean_per_class_recall"] == pytest.approx(np.mean(recalls))
    if classes >= 5:
        five = (np.argsort(-logits, axis=1)[:, :5] == labels[:, None]).any(1)
        assert metrics["acc5"] == pytest.approx(five.mean())


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, [0, 1, 6], "labels go from 0 to 6, but there are 6 classes"),
        (IMAGES, [0, 1], "do not fit"),
        (IMAGES[:, :4], [0, 1, 2], "do not fit"),
        (IMAGES[:0], [], r"of shape \(N, D\)"),
        (IMAGES * math.nan, [0, 1, 2], "3 of 3 embeddings of pictures are not numbers"),
    ],
)
def test_metrics_of_what_does_not_fit(images, labels, message):
    with pytest.raises(InputError, match=message):
        zero_shot_metrics(images, torch.tensor(labels, dtype=torch.long), torch.eye(6))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["red star", "Red_star", "blue ring"], "'red star' and 'Red_star'"),
        (
            ["blue ring", f"a {'very ' * 80}red star", f"a {'very ' * 80}blue ring"],
            "'a very .*red star' and 'a very",
        ),
    ],
)
def test_classes_that_are_the_same_to_the_encoder_are_warned_of(encoder, names, said):
    with pytest.warns(UserWarning, match=f"cannot tell these classes apart.*: {said}"):
        zero_shot_classifier(encoder, names, ["a photo of a {c}."])


def test_classes_that_differ_are_not_warned_of(encoder, pictures):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zero_shot_classifier(encoder, pictures.classnames, ["a photo of a {c}."])


def test_equal_rows_are_found_among_thousands():
    rows = np.random.default_rng(0).standard_normal((5000, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[[17, 4000]] = rows[3]
    rows[4999] = rows[42] + 1e-7
    assert equal_rows(rows) == [(3, 17), (3, 4000), (42, 4999)]
    assert equal_rows(rows[:1]) == equal_rows(rows[100:3000]) == []


@pytest.mark.parametrize(
    ("texts", "message"), [("a cat", r"got the text 'a cat': write \[text\]"), ([3], "got int")]
)
def test_a_bare_text_is_no_list_of_texts(encoder, texts, message):
    for call in (encoder.encode_text, lambda given: embed_texts(encoder, given)):
        with pytest.raises(InputError, match=message):
            call(texts)


def test_odd_texts_are_embedded(encoder):
    texts = ["", " ", "a\0b", "\ud800", "x" * 10_000_000, "\U0001f600" * 100_000]
    assert np.isfinite(encoder.encode_text(texts)).all()
