"""Spread: by hand."""

import math

import pytest

from train.metrics.spread import spread


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 3.0], (2.0, 1.0, 3, 0)),  # (1 + 0 + 1) / 2 = 1
        ([0.0, 4.0], (2.0, math.sqrt(8), 2, 0)),
        ([0.1, 0.1, 0.1], (0.1, 0.0, 3, 0)),
        ([5], (5.0, None, 1, 0)),
        ([1.0, None, math.nan, math.inf, 3.0], (2.0, math.sqrt(2), 2, 3)),
    ],
)
def test_mean_and_deviation(values, expected):
    found = spread(values)
    assert found == pytest.approx(expected)
    assert (found.std == 0) == (len({*values}) == 1 and len(values) > 1)


@pytest.mark.parametrize(("values", "lost"), [([], 0), ([None, math.nan], 2)])
def test_nothing_finite(values, lost):
    found = spread(values)
    assert math.isnan(found.mean)
    assert found[1:] == (None, 0, lost)


def test_a_scale():
    assert spread([0.5, 0.75], 100) == pytest.approx((62.5, 25 / math.sqrt(2), 2, 0))
