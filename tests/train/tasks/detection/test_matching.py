"""Matching: torchvision's, ties included, and what it does not know: padding and no object."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.tasks.detection.matching import match

GOLDEN = np.load(pathlib.Path(__file__).parents[3] / "golden" / "torchvision_boxes.npz")


def numbers(matches):
    """As torchvision says it: the object, -1 for background, -2 for ignored."""
    return np.where(matches.positive, matches.indices, np.where(matches.negative, -1, -2))


@pytest.mark.parametrize(
    ("high", "low", "best"), [(0.75, 0.375, True), (0.5, 0.5, False), (0.5, 0.375, True)]
)
def test_matches_equal_torchvision(high, low, best):
    iou = GOLDEN["overlaps"]
    expected = GOLDEN[f"matched/{high}/{low}/{best}"]
    padded = np.concatenate([iou[:2], np.ones((2, 24), np.float32), iou[2:]])
    valid = np.asarray([True, True, False, False, True, True, True])
    for overlaps, there, rows in (
        (iou, np.ones(5, bool), np.arange(5)),
        (padded, valid, np.asarray([0, 1, -9, -9, 2, 3, 4])),
    ):
        found = match(overlaps, there, high=high, low=low, best_for_each=best)
        assert found.indices.dtype == jnp.int32
        assert not (found.positive & found.negative).any()
        got = numbers(found)
        np.testing.assert_array_equal(np.where(got >= 0, rows[got], got), expected)


def test_by_hand():
    iou = jnp.asarray([[0.8, 0.5, 0.1, 0.0], [0.2, 0.4, 0.4, 0.0], [0.0, 0.0, 0.0, 0.0]])
    every = jnp.ones(3, bool)
    plain = match(iou, every, high=0.7, low=0.3, best_for_each=False)
    np.testing.assert_array_equal(numbers(plain), [0, -2, -2, -1])
    # The best of the second object are two; one of them overlaps the first object more.
    best = match(iou, every, high=0.7, low=0.3, best_for_each=True)
    np.testing.assert_array_equal(numbers(best), [0, 0, 1, -1])


def test_no_object_is_all_background():
    iou = jnp.ones((2, 3, 4)) * 0.9
    valid = jnp.zeros((2, 3), bool).at[1, 2].set(True)
    found = jax.jit(lambda *a: match(*a, high=0.5, low=0.4, best_for_each=True))(iou, valid)
    np.testing.assert_array_equal(numbers(found), [[-1] * 4, [2] * 4])
    np.testing.assert_array_equal(found.indices[0], 0)
    none = match(iou[:, :0], valid[:, :0], high=0.5, low=0.4, best_for_each=True)
    np.testing.assert_array_equal(numbers(none), -np.ones((2, 4)))


@pytest.mark.parametrize(("high", "low"), [(0.3, 0.5), (0.5, 0.0), (0.5, float("nan"))])
def test_refusals(high, low):
    with pytest.raises(ValueError, match=f"low={low}, high={high}"):
        match(jnp.ones((1, 1)), jnp.ones(1, bool), high=high, low=low, best_for_each=True)
