"""Pooling by hand, at the borders and in every dtype."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import pooling
from models.layers.pooling import (
    adaptive_average_pool,
    average_pool,
    global_average_pool,
    max_pool,
)

SERIES = jnp.array([3.0, 1, -2, 5, 4]).reshape(1, 5, 1)
PICTURE = jnp.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]).reshape(1, 3, 3, 1)
NEGATIVE = -PICTURE


def real(x, *args, **kwargs):
    return average_pool(x, *args, **kwargs, count_include_pad=False)


@pytest.mark.parametrize(
    ("pool", "x", "window", "strides", "padding", "expected"),
    [
        (max_pool, SERIES, (2,), 1, "VALID", [3, 1, 5, 5]),
        (max_pool, SERIES, (2,), 2, "VALID", [3, 5]),
        (max_pool, SERIES, (2,), 2, "SAME", [3, 5, 4]),
        (max_pool, SERIES, (3,), 2, 1, [3, 5, 5]),
        (max_pool, -SERIES, (3,), 2, 1, [-1, 2, -4]),
        (max_pool, SERIES, (3,), 3, [(2, 0)], [3, 5]),
        (max_pool, PICTURE, (2, 2), 1, "VALID", [[5, 6], [8, 9]]),
        (max_pool, NEGATIVE, (3, 3), 2, 1, [[-1, -2], [-4, -5]]),
        (max_pool, PICTURE, (2, 1), (1, 2), "VALID", [[4, 6], [7, 9]]),
        (max_pool, PICTURE, (2, 2), 2, [(1, 0), 0], [[2], [8]]),
        (average_pool, SERIES, (2,), 1, "VALID", [2, -0.5, 1.5, 4.5]),
        (average_pool, SERIES, (2,), 2, "SAME", [2, 1.5, 2]),
        (real, SERIES, (2,), 2, "SAME", [2, 1.5, 4]),
        (average_pool, SERIES, (3,), 2, [(0, 2)], [2 / 3, 7 / 3, 4 / 3]),
        (real, SERIES, (3,), 2, [(0, 2)], [2 / 3, 7 / 3, 4]),
        (average_pool, PICTURE, (2, 2), 1, "VALID", [[3, 4], [6, 7]]),
        (average_pool, PICTURE, (2, 2), 2, 1, [[0.25, 1.25], [2.75, 7]]),
        (real, PICTURE, (2, 2), 2, 1, [[1, 2.5], [5.5, 7]]),
        (real, PICTURE, (3, 2), (2, 1), [1, (0, 1)], [[3, 4, 4.5], [6, 7, 7.5]]),
        (real, PICTURE, (5, 5), 1, 2, [[5, 5, 5]] * 3),
        (max_pool, PICTURE, np.int64([2, 1]), np.int64(2), np.int64(0), [[4, 6]]),
    ],
)
def test_by_hand(pool, x, window, strides, padding, expected):
    y = pool(x, window, strides=strides, padding=padding)
    np.testing.assert_allclose(y[0, ..., 0], expected, rtol=1e-6)


def test_channels_and_examples_do_not_mix():
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 5)).astype(np.float32)
    blocks = x.reshape(3, 2, 2, 2, 2, 5)
    x = jnp.asarray(x)
    np.testing.assert_array_equal(max_pool(x, (2, 2), strides=2), blocks.max((2, 4)))
    # Where positive and negative values cancel, the order of a sum is seen.
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(average_pool(x, (2, 2), strides=2), blocks.mean((2, 4)))
    close(global_average_pool(x), x.mean((1, 2)))
    assert global_average_pool(x[:, 0]).shape == (3, 5)


@pytest.mark.parametrize(
    ("x", "sizes", "expected"),
    [
        (SERIES, (1,), [2.2]),
        (SERIES, (2,), [2 / 3, 7 / 3]),
        (SERIES, (3,), [2, 4 / 3, 4.5]),
        (SERIES, (5,), [3, 1, -2, 5, 4]),
        (SERIES, (7,), [3, 2, -0.5, -2, 1.5, 4.5, 4]),
        (SERIES[:, :1], (3,), [3, 3, 3]),
        (PICTURE, (2, 3), [[2.5, 3.5, 4.5], [5.5, 6.5, 7.5]]),
        (PICTURE, (1, 2), [[4.5, 5.5]]),
    ],
)
def test_adaptive_windows_by_hand(x, sizes, expected):
    np.testing.assert_allclose(adaptive_average_pool(x, sizes)[0, ..., 0], expected, rtol=1e-6)


def test_adaptive_windows_that_divide_are_plain_ones():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 8, 3)), jnp.float32)
    found = adaptive_average_pool(x, (3, 2))
    np.testing.assert_allclose(found, average_pool(x, (2, 4), strides=(2, 4)), rtol=1e-5)
    np.testing.assert_allclose(
        adaptive_average_pool(x, (1, 1))[:, 0, 0], global_average_pool(x), rtol=1e-5
    )


def test_adaptive_means_have_the_dtypes_of_the_others():
    bits = jnp.concatenate([jnp.full((1, 1, 1), 256), jnp.ones((1, 255, 1))], 1)
    mean = adaptive_average_pool(bits.astype(jnp.bfloat16), (1,))
    assert mean.dtype == jnp.bfloat16
    assert float(mean.ravel()[0]) == float(jnp.bfloat16(511 / 256))
    assert adaptive_average_pool(jnp.full((1, 4, 1), 255, jnp.uint8), (3,)).dtype == jnp.float32


def test_adaptive_gradients_share_out_each_mean():
    gradient = jax.grad(lambda x: adaptive_average_pool(x, (2,)).sum())(SERIES)
    np.testing.assert_allclose(gradient.ravel(), [1 / 3, 1 / 3, 2 / 3, 1 / 3, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "sizes", "message"),
    [
        (PICTURE, (2,), r"\(1, 3, 3, 1\) to sizes=\(2,\): expected 3 axes"),
        (jnp.zeros((1, 0, 3, 1)), (1, 1), r"\(1, 0, 3, 1\) to sizes=\(1, 1\)"),
        (SERIES, (0,), "sizes=0 must be a whole number, at least 1"),
        (SERIES, (1.5,), "sizes=1.5 must be a whole number"),
    ],
)
def test_bad_adaptive_sizes_are_named(x, sizes, message):
    with pytest.raises(ValueError, match=message):
        adaptive_average_pool(x, sizes)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_integers_do_not_overflow(dtype):
    top, low = np.iinfo(dtype).max, np.iinfo(dtype).min
    x = jnp.full((1, 4, 1), top, dtype)
    for mean in (average_pool(x, (4,), strides=1), global_average_pool(x)):
        assert mean.dtype == jnp.float32
        np.testing.assert_allclose(mean.ravel(), [top], rtol=1e-6)
    lowest = max_pool(jnp.full((1, 4, 1), low, dtype), (3,), strides=2, padding=1)
    assert lowest.dtype == dtype
    assert lowest.ravel().tolist() == [low, low]


def test_bfloat16_is_summed_in_float32():
    x = jnp.concatenate([jnp.full((1, 1, 1), 256), jnp.ones((1, 255, 1))], 1).astype(jnp.bfloat16)
    # In bfloat16, 256 + 1 = 256: the sum would stay there.
    for mean in (average_pool(x, (256,), strides=1), global_average_pool(x)):
        assert mean.dtype == jnp.bfloat16
        assert float(mean.ravel()[0]) == float(jnp.bfloat16(511 / 256))


@pytest.mark.usefixtures("x64")
def test_float64_stays_float64():
    x = PICTURE.astype(jnp.float64) + 1e-12
    pooled = [pool(x, (2, 2), strides=1, padding=1) for pool in (max_pool, average_pool, real)]
    assert {y.dtype for y in [*pooled, global_average_pool(x)]} == {np.dtype(np.float64)}
    assert float(pooled[0][0, 0, 0, 0]) == 1 + 1e-12


def test_infinities_and_nan_stay_what_they_are():
    x = jnp.array([-jnp.inf, -jnp.inf, 1, jnp.nan]).reshape(1, 4, 1)
    y = max_pool(x, (2,), strides=1).ravel()
    assert y[0] == -jnp.inf
    assert y[1] == 1
    assert jnp.isnan(y[2])


@pytest.mark.parametrize("padding", ["SAME", 1])
def test_gradients_are_finite_and_add_up(padding):
    for pool in (max_pool, average_pool, real):

        def total(x, pool=pool):
            return pool(x, (3, 3), strides=2, padding=padding).sum()

        gradient = jax.grad(total)(NEGATIVE)
        assert bool(jnp.isfinite(gradient).all())
        if pool is not average_pool:
            assert float(gradient.sum()) == pytest.approx(4, rel=1e-6)


@pytest.mark.parametrize(
    ("x", "window", "strides", "padding", "message"),
    [
        (PICTURE, (2,), 1, "VALID", r"\(1, 3, 3, 1\) under a window of \(2,\): expected 3 axes"),
        (SERIES, (2,), 1, 2, "padding=2 leaves a window of 2 with padding alone"),
        (SERIES, (2,), 1, "CIRCULAR", "padding='CIRCULAR' is not"),
        (SERIES, (2,), 1, "FULL", "padding='FULL' is none of"),
        (SERIES, (0,), 1, "VALID", "window=0 must be a whole number, at least 1"),
        (SERIES, (2,), 0, "VALID", "strides=0 must be a whole number, at least 1"),
        (SERIES, (2,), None, "VALID", "strides=None must"),
        (SERIES, (2,), 1, None, "padding=None is neither"),
        (PICTURE, (2, 2), (1,), "VALID", r"strides=\(1,\) has 1 values for 2 spatial axes"),
        (PICTURE, (2, 2), (1, 1, 1), "VALID", r"strides=\(1, 1, 1\) has 3 values for 2"),
        (PICTURE, (2, 2), 1, (0, 0, 0), r"padding=\(0, 0, 0\) has 3 values for 2"),
        (PICTURE, (2, 2), 1, [1, (0, 0, 1)], r"padding=\(0, 0, 1\) is neither"),
    ],
)
def test_bad_arguments_are_named(x, window, strides, padding, message):
    for pool in (max_pool, average_pool):
        with pytest.raises(ValueError, match=message):
            pool(x, window, strides=strides, padding=padding)


@pytest.mark.parametrize("shape", [(2, 3), (2, 0, 3)])
def test_no_positions_are_refused(shape):
    with pytest.raises(ValueError, match="no positions"):
        global_average_pool(jnp.zeros(shape))


@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [
        ((2, 2), 2, "VALID"),
        ((3, 3), 2, 1),
        ((3, 2), (1, 2), "SAME"),
        ((2, 5), (3, 1), [(1, 0), (2, 4)]),
        ((17, 3), 2, [(9, 3), 0]),
        ((12, 2), 1, "VALID"),
    ],
)
def test_a_maximum_and_its_gradient_go_to_the_first_of_equals(window, strides, padding):
    """As XLA's own search has it, among few values, so that most windows have several largest."""
    x = jnp.asarray(np.random.default_rng(0).integers(-1, 2, (2, 11, 10, 3)), jnp.float32)
    moves = [(1, 1, (0, 0)), *pooling.along_axes(x, window, strides, padding), (1, 1, (0, 0))]

    def search(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *zip(*moves, strict=True))

    def ours(x):
        return max_pool(x, window, strides=strides, padding=padding)

    expected, back = jax.vjp(search, x)
    y, pull = jax.vjp(ours, x)
    np.testing.assert_array_equal(y, expected)
    ct = jnp.asarray(np.random.default_rng(1).normal(size=y.shape), jnp.float32)
    np.testing.assert_allclose(pull(ct)[0], back(ct)[0], atol=1e-5)
    _, moved = jax.jvp(ours, (x,), (x,))
    np.testing.assert_array_equal(moved, y)


def test_a_maximum_of_no_window_is_empty():
    assert max_pool(jnp.zeros((2, 3, 9, 1)), (4, 2), strides=2).shape == (2, 0, 4, 1)
