"""Paired comparison: SciPy's own tests, Holm by hand, power by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from train.metrics.paired import (
    Interval,
    Paired,
    holm,
    interval,
    paired,
    power_of,
    smallest_effect,
)

A = [0.912, 0.921, 0.905, 0.917, 0.909]
B = [0.903, 0.915, 0.908, 0.911, 0.900]


def test_an_interval_is_scipys():
    expected = stats.t.interval(0.95, 4, loc=np.mean(A), scale=stats.sem(A))
    np.testing.assert_allclose(interval(A), expected, rtol=1e-12)
    expected = stats.t.interval(0.8, 1, loc=1.5, scale=0.5)
    np.testing.assert_allclose(interval([1, 2], level=0.8), expected, rtol=1e-12)
    assert interval([3.0]) is None
    assert interval([]) is None


def test_a_paired_difference_is_scipys():
    found, expected = paired(A, B), stats.ttest_rel(A, B)
    assert found.n == 5
    assert found.difference == pytest.approx(np.mean(A) - np.mean(B))
    assert found.std == pytest.approx(np.std(np.subtract(A, B), ddof=1))
    assert found.p == pytest.approx(expected.pvalue)
    np.testing.assert_allclose(found.interval, expected.confidence_interval(0.95), rtol=1e-9)
    other = paired(B, A)
    assert (other.difference, other.p) == (-found.difference, pytest.approx(found.p))


def test_a_seed_that_diverged_leaves_its_pair_out():
    with_gaps = paired([*A, None, 0.9, math.nan], [*B, 0.9, None, 0.9])
    assert with_gaps == paired(A, B)
    assert paired([0.5, None], [0.25, 0.5]) == Paired(0.25, 1)
    alone = paired([None], [0.5])
    assert math.isnan(alone.difference)
    assert (alone.n, alone.p) == (0, None)
    with pytest.raises(ValueError, match="argument"):
        paired(A[:4], B)


def test_differences_without_a_spread_have_no_t():
    assert paired(A, A) == Paired(0.0, 5, 0.0, Interval(0.0, 0.0), 1.0, 0.0)
    # Equal but for rounding: 0.3 - 0.2 is not 0.2 - 0.1 in floats.
    found = paired([0.2, 0.3, 0.4], [0.1, 0.2, 0.3])
    assert (found.std, found.p) == (0.0, None)
    assert found.difference == pytest.approx(0.1)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_smallest_effect_is_found_in_80_of_100_simulated_cases(n):
    rng = np.random.default_rng(n)
    effect = smallest_effect(n)
    drawn = rng.standard_normal((20_000, n)) + effect
    found = np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05)
    assert found == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 20_000))


@pytest.mark.parametrize(("noncentrality", "degrees"), [(3.5, 4), (2.9, 19), (0.0, 2)])
def test_power_is_that_of_a_noncentral_t(noncentrality, degrees):
    beyond = stats.t.ppf(0.975, degrees)
    expected = stats.nct.sf(beyond, degrees, noncentrality)
    expected += stats.nct.cdf(-beyond, degrees, noncentrality)
    assert power_of(noncentrality, degrees, beyond) == pytest.approx(expected, abs=1e-9)


def test_the_smallest_effect_of_a_comparison_is_in_its_own_unit():
    found = paired(A, B)
    assert found.detectable == pytest.approx(found.std * smallest_effect(5))
    assert smallest_effect(100) == pytest.approx((1.96 + 0.8416) / 10, rel=0.02)
    assert smallest_effect(5, power=0.5) < smallest_effect(5) < smallest_effect(5, level=0.99)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04, times 4, 3, 2, 1; none below the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.4, None, 0.9]) == [0.8, None, 0.9]
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
