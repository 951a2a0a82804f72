"""SVMs that mine hard negatives, and regressors of boxes, on features made by hand."""

import numpy as np
import pytest

from train.tasks.detection import svm
from train.tasks.detection.svm import box_regressor, hard_mined


def made(count=400):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((count, 5)).astype(np.float32)
    positive = np.arange(count) < 40
    features[:, 0] = np.where(positive, 3, -1) + 0.1 * features[:, 0]
    # A few negatives that differ in another feature alone.
    features[-8:, 0], features[-8:, 1] = 3, 6
    return features, positive


def test_hard_negatives_are_found(monkeypatch):
    features, positive = made()
    monkeypatch.setattr(svm, "FIRST", 4)
    monkeypatch.setattr(svm, "COST", 1.0)
    weights, bias = hard_mined(features, positive, ~positive, seed=1, chunk=64)
    scores = features @ weights + bias
    assert (scores[positive] > 0).all()
    assert (scores[~positive] < 0).all()
    unmined, bias = hard_mined(features, positive, ~positive, seed=1, rounds=0)
    assert (features[-8:] @ unmined + bias > 0).any()
    again, _ = hard_mined(features, positive, ~positive, seed=1, chunk=400)
    np.testing.assert_allclose(again, weights, rtol=1e-6)


@pytest.mark.parametrize("positive", [False, True])
def test_a_class_without_a_region_of_either_kind_is_never_found(positive):
    features, _ = made()
    every = np.full(len(features), positive)
    weights, bias = hard_mined(features, every, ~every, seed=0)
    assert not weights.any()
    assert bias == -1


def test_regressor_is_ridge_by_hand():
    rng = np.random.default_rng(0)
    pooled, targets = rng.standard_normal((50, 3)), rng.standard_normal((50, 4)) + 1
    kernel, bias = box_regressor(pooled, targets, penalty=7.0)
    x, y = pooled - pooled.mean(0), targets - targets.mean(0)
    scale = 20 / np.linalg.norm(pooled, axis=1).mean()
    expected = np.linalg.solve(x.T @ x + 7 / scale**2 * np.eye(3), x.T @ y)
    np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(bias, targets.mean(0) - pooled.mean(0) @ expected, rtol=1e-5)
    larger, _ = box_regressor(10 * pooled, targets, penalty=7.0)
    np.testing.assert_allclose(10 * larger, kernel, rtol=1e-5)  # boxes are the same
    kernel, bias = box_regressor(pooled[:0], targets[:0])
    assert not kernel.any()
    assert not bias.any()
