"""Figures of residuals: scikit-learn's, and a MASE worked out by hand."""

import jax
import numpy as np
import pytest
from sklearn.metrics import (
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    root_mean_squared_error,
)

from train.metrics.regression import Residuals, mae, mase, mse, r2, residuals, rmse, seasonal_error


def added(*parts):
    return Residuals(*map(sum, zip(*parts, strict=True)))


def drawn(seed, shape=(57, 3), offset=0.0):
    rng = np.random.default_rng(seed)
    truth = np.float32(rng.normal(size=shape) * [1, 10, 0.1] + offset)
    return np.float32(truth + rng.normal(size=shape) * [0.3, 20, 0.01]), truth


@pytest.mark.parametrize("offset", [0.0, -3.0, 4000.0])
def test_they_are_scikit_learns_however_a_split_falls_into_batches(offset):
    guess, truth = drawn(0, offset=offset)
    reference = truth[:5].mean(0)
    parts = [residuals(guess[i:j], truth[i:j], reference) for i, j in ((0, 20), (20, 21), (21, 57))]
    sums = added(*parts)
    guess, truth = np.float64(guess), np.float64(truth)
    for ours, theirs in (
        (mae, mean_absolute_error),
        (mse, mean_squared_error),
        (rmse, root_mean_squared_error),
        (r2, r2_score),
    ):
        each = theirs(truth, guess, multioutput="raw_values")
        np.testing.assert_allclose(ours(sums), each, rtol=1e-9, err_msg=ours.__name__)
        np.testing.assert_allclose(np.mean(ours(sums)), theirs(truth, guess), rtol=1e-9)


def test_without_a_reference_large_targets_still_have_their_r2():
    guess, truth = drawn(1, offset=1000.0)
    expected = r2_score(np.float64(truth), np.float64(guess), multioutput="raw_values")
    np.testing.assert_allclose(r2(residuals(guess, truth)), expected, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
@pytest.mark.parametrize("reference", [0.0, 7.3])
def test_targets_that_are_all_the_same(value, reference):
    truth = np.full((49, 1), value)
    parts = [
        residuals(truth[:30], truth[:30], reference),
        residuals(truth[30:], truth[30:], reference),
    ]
    assert r2(added(*parts)) == 1
    assert r2(residuals(truth + 0.5, truth, reference)) == 0


def test_scikit_learn_says_the_same_of_them():
    truth = np.full((49, 1), 0.5)
    assert r2_score(truth, truth) == 1
    assert r2_score(truth, truth + 0.5) == 0


def test_of_one_example_and_of_none():
    one = residuals([[2.0]], [[1.5]])
    assert (mae(one), mse(one), rmse(one)) == (0.5, 0.25, 0.5)
    assert np.isnan(r2(one))
    none = residuals(np.zeros((0, 2)), np.zeros((0, 2)))
    for figure in (mae, mse, rmse, r2):
        assert np.isnan(figure(none)).tolist() == [True, True]


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 1\) and targets \(3,\)"):
        residuals(np.zeros((3, 1)), np.zeros(3))


# --- MASE --------------------------------------------------------------------------------------

SERIES = np.array([1.0, 4, 2, 6, 3, 9])


def test_the_seasonal_error_by_hand():
    assert seasonal_error(SERIES, 1) == (3 + 2 + 4 + 3 + 6) / 5
    assert seasonal_error(SERIES, 2) == (1 + 2 + 1 + 3) / 4
    both = seasonal_error(np.stack([SERIES, 10 * SERIES], -1), 2)
    assert both.tolist() == [7 / 4, 70 / 4]


@pytest.mark.parametrize("season", [0, -1, 6, 7])
def test_a_season_that_the_series_does_not_have_is_refused(season):
    with pytest.raises(ValueError, match=f"season={season} "):
        seasonal_error(SERIES, season)


def test_mase_by_hand():
    """Errors of 1, 2 and 4 in units of 7 / 4; a second target has a unit of its own."""
    guess, truth = np.array([[1.0, 0], [0, 0], [-4, 0]]), np.array([[0.0, 1], [2, 1], [0, 1]])
    sums = residuals(guess, truth)
    assert mase(sums, 7 / 4).tolist() == pytest.approx([7 / 3 / (7 / 4), 4 / 7])
    assert mase(sums, [7 / 4, 2.0]).tolist() == pytest.approx([4 / 3, 0.5])
    assert np.isnan(mase(sums, [0.0, 1])).tolist() == [True, False]


def test_who_says_as_a_season_ago_has_a_mase_of_1_on_the_series_itself():
    rng = np.random.default_rng(3)
    series = rng.normal(size=(200, 1)).cumsum(0)
    naive = residuals(series[:-12], series[12:])
    np.testing.assert_allclose(mase(naive, seasonal_error(series, 12)), 1, rtol=1e-12)


def test_sums_are_a_tree_of_arrays():
    sums = residuals(*drawn(2))
    assert [leaf.shape for leaf in jax.tree.leaves(sums)] == [(3,)] * 5
