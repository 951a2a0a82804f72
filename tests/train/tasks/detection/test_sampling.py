"""Sampling: counts, padding, equal chances, and that an image's draw is its own."""

import jax
import numpy as np
import pytest

from train.tasks.detection import sampling

sample = jax.jit(sampling.sample, static_argnames=("count", "fraction"))
KEY = jax.random.key(3)


def kinds(positives, negatives, anchors):
    """One row an image: so many positive ones from the front, negative ones from the back."""
    places = np.arange(anchors)
    return (
        np.array([places < n for n in positives]),
        np.array([places >= anchors - n for n in negatives]),
    )


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [(10, 20, (4, 4)), (2, 20, (2, 6)), (10, 1, (4, 1)), (0, 3, (0, 3)), (0, 0, (0, 0))],
)
def test_counts(positives, negatives, expected):
    positive, negative = kinds([positives], [negatives], 30)
    drawn = sample(KEY, positive, negative, count=8, fraction=0.5)
    assert drawn.indices.shape == drawn.positive.shape == drawn.valid.shape == (1, 8)
    indices, chosen, valid = (np.asarray(part[0]) for part in drawn)
    assert (chosen.sum(), (valid & ~chosen).sum()) == expected
    np.testing.assert_array_equal(valid, np.arange(8) < sum(expected))
    np.testing.assert_array_equal(chosen, np.arange(8) < expected[0])
    assert np.asarray(positive)[0, indices[chosen]].all()
    assert np.asarray(negative)[0, indices[valid & ~chosen]].all()
    assert len(set(indices[valid])) == sum(expected)
    assert not indices[~valid].any()


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_more_slots_than_anchors(fraction):
    positive, negative = kinds([2], [3], 5)
    drawn = sample(KEY, positive, negative, count=12, fraction=fraction)
    expected = 2 if fraction else 0
    assert np.asarray(drawn.positive).sum() == expected
    assert np.asarray(drawn.valid).sum() == 3 + expected


def test_all_are_equally_likely():
    positive, negative = kinds([6], [12], 20)
    many = jax.jit(jax.vmap(lambda k: sample(k, positive, negative, count=6, fraction=0.5)))
    drawn = many(jax.random.split(KEY, 4000))
    often = np.bincount(np.asarray(drawn.indices).ravel(), minlength=20)
    np.testing.assert_array_equal(often[6:8], 0)
    # Each positive one in half of the draws, each negative one in a quarter: 5 standard deviations.
    assert abs(often[:6] - 2000).max() < 160
    assert abs(often[8:] - 1000).max() < 140


def test_an_images_draw_is_its_own():
    positive, negative = kinds([9, 9, 9], [9, 9, 9], 20)
    three = sample(KEY, positive, negative, count=6, fraction=0.5)
    two = sample(KEY, positive[:2], negative[:2], count=6, fraction=0.5)
    other = sample(jax.random.key(4), positive, negative, count=6, fraction=0.5)
    nested = sample(KEY, positive[None], negative[None], count=6, fraction=0.5)
    three, two, other, nested = (np.asarray(each.indices) for each in (three, two, other, nested))
    np.testing.assert_array_equal(three[:2], two)
    assert (three[0] != three[1]).any()
    assert (other != three).any()
    np.testing.assert_array_equal(nested[0], three)


@pytest.mark.parametrize(
    ("change", "message"), [({"count": 0}, "count=0"), ({"fraction": 1.5}, "fraction=1.5")]
)
def test_refusals(change, message):
    with pytest.raises(ValueError, match=message):
        sample(KEY, *kinds([1], [1], 3), **{"count": 2, "fraction": 0.5} | change)
