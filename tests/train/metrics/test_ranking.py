"""Areas by counting pairs, and scikit-learn's."""

import math

import numpy as np
import pytest
import sklearn.metrics

from train.metrics.ranking import roc_auc

INF = math.inf


@pytest.mark.parametrize(
    ("labels", "scores", "area"),
    [
        ([0, 0, 1, 1], [1, 2, 3, 4], 1),
        ([0, 0, 1, 1], [4, 3, 2, 1], 0),
        ([0, 0, 1, 1], [5, 5, 5, 5], 0.5),
        ([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8], 3.5 / 4),
        ([0, 1, 1], [-INF, INF, 0], 1),
        ([0, 1, 0], [INF, INF, 3], 1.5 / 2),
        ([True, False], [1, 0], 1),
    ],
)
def test_pairs_by_hand(labels, scores, area):
    assert roc_auc(np.array(labels), np.array(scores, np.float32)) == area


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([1, 1], [0, 1]), ([0, 0], [0, 1]), ([], []), ([0, 1], [math.nan, 1]), ([1], [math.nan])],
)
def test_what_is_not_defined_is_nan(labels, scores):
    assert math.isnan(roc_auc(np.array(labels), np.array(scores, np.float32)))


@pytest.mark.parametrize("levels", [3, 20, 10**6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scikit_learn_and_the_count_of_pairs(levels, dtype):
    rng = np.random.default_rng(levels)
    labels = rng.integers(0, 2, 200)
    scores = ((rng.integers(0, levels, 200) + labels * levels / 4) * 1e-3).astype(dtype)
    found = roc_auc(labels, scores)
    theirs = sklearn.metrics.roc_auc_score(labels, scores)
    assert found == pytest.approx(theirs, rel=1e-12)
    gap = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    assert found == pytest.approx(np.mean((gap > 0) + 0.5 * (gap == 0)), rel=1e-12)
