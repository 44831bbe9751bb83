import io

import numpy as np
import pytest

from spikeclip.errors import InputError
from spikeclip.evaluate.figure import RIGHT, WRONG, predictions_figure


def test_right_and_wrong_differ_and_nothing_is_shown(pictures):
    few = pictures.subset(np.arange(5))
    scores = np.full((5, 64), 0.001)
    scores[np.arange(5), few.labels] = [0.9, 0.9, 0.0, 0.9, 0.9]
    figure = predictions_figure(few, scores, few.classnames, title="five", columns=3)
    bars = [axes.patches[0] for axes in figure.axes if axes.patches]
    colours = [bar.get_facecolor() for bar in bars]
    assert len(bars) == 5
    assert colours[2] != colours[0]
    assert colours.count(colours[0]) == 4
    assert RIGHT != WRONG
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")


def test_two_classes_and_one_picture(pictures):
    figure = predictions_figure(
        pictures.subset(np.arange(1)), np.array([[0.3, 0.7]]), ["cat", "a" * 80], labels=np.array([1])
    )
    assert all(len(text.get_text()) <= 20 for axes in figure.axes for text in axes.texts)


def test_scores_that_do_not_fit(pictures):
    with pytest.raises(InputError, match="do not fit"):
        predictions_figure(pictures, np.ones((2, 64)), pictures.classnames)
