import math

import pytest

from spikeclip.evaluate.statistics import mean_interval, t_quantile


@pytest.mark.parametrize(
    ("degrees", "t"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (100, 1.9840)]
)
def test_quantiles_are_those_of_the_tables(degrees, t):
    assert t_quantile(degrees) == pytest.approx(t, abs=1e-4)


def test_interval_by_hand():
    mean, interval = mean_interval([0.1, 0.2, 0.3])
    assert (mean, interval) == (pytest.approx(0.2), pytest.approx(4.30265 * 0.1 / math.sqrt(3), rel=1e-4))


def test_one_value_has_no_interval():
    assert mean_interval([0.5])[0] == 0.5
    assert math.isnan(mean_interval([0.5])[1])
    assert all(map(math.isnan, mean_interval([])))
