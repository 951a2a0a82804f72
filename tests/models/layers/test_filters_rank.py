"""The median against SciPy and by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage as ndi

from models.layers import filters

MODES = ["reflect", "constant", "nearest", "wrap"]
CASES = list(itertools.product([1, 3, 2, (4, 3), (1, 4)], MODES))


def pictures(shape, dtype):
    return np.random.default_rng(0).uniform(0, 255, (2, *shape, 2)).astype(dtype)


@jax.jit
def of_all(x):
    return [filters.median(x, size, mode=mode, cval=99) for size, mode in CASES]


@pytest.mark.parametrize("shape", [(7, 10), (3, 1)])
def test_it_is_scipys(shape):
    x = pictures(shape, np.uint8)
    for y, (size, mode) in zip(of_all(x), CASES, strict=True):
        assert y.dtype == np.uint8
        for b, c in np.ndindex(2, 2):
            expected = ndi.median_filter(x[b, :, :, c], size, mode=mode, cval=99)
            np.testing.assert_array_equal(y[b, :, :, c], expected)


def test_a_window_larger_than_the_picture():
    x = pictures((2, 3), np.float32)
    padded = np.pad(x, [(0, 0), (3, 3), (2, 2), (0, 0)], "symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 5), (1, 2))
    np.testing.assert_array_equal(filters.median(x, (7, 5)), np.median(windows, (-2, -1)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64, jnp.int32])
def test_any_dtype_stays_to_the_bit(dtype):
    x = jnp.asarray(pictures((5, 4), np.float64), dtype)
    y = filters.median(x, 3)
    assert y.dtype == dtype
    wide = filters.median(x.astype(jnp.float64), 3)
    np.testing.assert_array_equal(np.float64(y), wide)


def test_salt_and_pepper_go_and_an_edge_stays():
    clean = np.zeros((1, 9, 9, 1), np.uint8)
    clean[:, :, 5:] = 200
    noisy = clean.copy()
    noisy[0, 2, 2], noisy[0, 6, 7], noisy[0, 0, 0], noisy[0, 8, 2] = 255, 0, 255, 255
    np.testing.assert_array_equal(filters.median(noisy, 3), clean)
    assert np.abs(filters.box(noisy, 3) - clean).max() > 50


def test_the_gradient_goes_to_the_pixel_that_was_taken():
    x = jnp.array([5.0, 1, 9, 3, 7]).reshape(1, 1, 5, 1)
    y, pull = jax.vjp(lambda x: filters.median(x, (1, 3)), x)
    # Windows 5 5 1, 5 1 9, 1 9 3, 9 3 7, 3 7 7.
    assert y.ravel().tolist() == [5, 5, 3, 7, 7]
    (slope,) = pull(jnp.array([1.0, 10, 100, 1000, 10000]).reshape(x.shape))
    assert slope.ravel().tolist() == [11, 0, 0, 100, 11000]


def test_nan_counts_as_the_largest():
    x = jnp.array([jnp.nan, 1, 2, jnp.nan, jnp.nan]).reshape(1, 1, 5, 1)
    y = np.asarray(filters.median(x, (1, 3))).ravel()
    np.testing.assert_array_equal(y, [np.nan, 2, 2, np.nan, np.nan])


@pytest.mark.parametrize(
    ("dtype", "cval", "message"),
    [
        (np.uint8, 256, "cval=256 is no uint8"),
        (np.uint8, -1, "cval=-1 is no uint8"),
        (np.int16, 0.5, "cval=0.5 is no int16"),
    ],
)
def test_a_constant_that_the_dtype_cannot_hold(dtype, cval, message):
    with pytest.raises(ValueError, match=message):
        filters.median(np.ones((1, 3, 3, 1), dtype), 3, mode="constant", cval=cval)
