import numpy as np
from small_sources import noise

from spikeclip.data import Pictures
from spikeclip.data.sheet import contact_sheet


def drawn(figure):
    """The pictures and the texts under them, in order."""
    (axes,) = figure.axes
    return [image.get_array() for image in axes.images], [text.get_text() for text in axes.texts]


def test_every_class_is_shown_with_its_name(tmp_path):
    labels = np.arange(300) % 50
    pictures = Pictures(
        "set",
        "test",
        np.stack([noise(label, 8, 8) for label in labels]),
        [str(i) for i in range(300)],
        "",
        labels,
        [f"class_{i}" for i in range(50)],
    )
    images, names = drawn(contact_sheet(pictures, "title"))
    assert len(names) == len(set(names)) == 40
    for image, name in zip(images, names, strict=True):
        assert np.array_equal(image, noise(int(name.split()[1]), 8, 8))
    figure = contact_sheet(pictures.subset(np.arange(3)))
    figure.savefig(tmp_path / "sheet.png")
    assert drawn(figure)[1] == ["class 0", "class 1", "class 2"]


def test_without_classes_the_first_caption_is_shown():
    texts = [["a dog", "not shown"], [], ["word " * 60]]
    pictures = Pictures(
        "set", "test", np.stack([noise(i) for i in range(3)]), list("abc"), "", captions=texts
    )
    names = drawn(contact_sheet(pictures))[1]
    assert names[:2] == ["a dog", ""]
    assert names[2].endswith("...")
    assert names[2].count("\n") == 3
