"""Point-wise filters by hand, against scikit-image, and in every dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.exposure as ski

from models.layers import filters
from models.layers.filters.pointwise import bin_edges

equalise = jax.jit(filters.equalise_histogram, static_argnames="nbins")


def row(values, dtype):
    return jnp.asarray(values, dtype).reshape(1, 1, -1, 1)


@pytest.mark.parametrize(
    ("call", "dtype", "expected"),
    [
        (filters.invert, np.float32, [1, 0.75, 0, -1]),
        (lambda x: filters.invert(x, white=255), np.float32, [255, 254.75, 254, 253]),
        (lambda x: filters.brightness(x, 0.25), np.float32, [0.25, 0.5, 1.25, 2.25]),
        (lambda x: filters.contrast(x, 2), np.float32, [-0.5, 0, 1.5, 3.5]),
        (lambda x: filters.contrast(x, 2, white=2), np.float32, [-1, -0.5, 1, 3]),
        (lambda x: filters.gamma(x, 2), np.float32, [0, 0.0625, 1, 4]),
        (lambda x: filters.gamma(x, 0.5, white=4), np.float32, [0, 1, 2, 2 * 2**0.5]),
        (lambda x: filters.threshold(x, 0.25), np.float32, [0, 0, 1, 1]),
        (lambda x: filters.threshold(x, 0.2, white=9), np.float32, [0, 9, 9, 9]),
        (filters.invert, np.uint8, [255, 155, 55, 0]),
        (lambda x: filters.brightness(x, 100), np.uint8, [100, 200, 255, 255]),
        (lambda x: filters.brightness(x, -100.5), np.uint8, [0, 0, 100, 154]),
        (lambda x: filters.contrast(x, 2), np.uint8, [0, 72, 255, 255]),
        (lambda x: filters.contrast(x, 0), np.uint8, [128] * 4),
        (lambda x: filters.threshold(x, 99.5), np.uint8, [0, 255, 255, 255]),
        (filters.invert, np.uint16, [65535, 65435, 65335, 65280]),
        (lambda x: filters.invert(x, white=255), np.int32, [255, 155, 55, 0]),
        (lambda x: filters.brightness(x, -120), np.int8, [-120, -119, 7]),
        (lambda x: filters.brightness(x, 120), np.int8, [120, 121, 127]),
    ],
)
def test_by_hand(call, dtype, expected):
    values = {np.float32: [0, 0.25, 1, 2], np.int8: [0, 1, 127]}.get(dtype, [0, 100, 200, 255])
    y = call(row(values, dtype))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.ravel(), expected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_floats_keep_their_dtype_and_are_rounded_once(dtype):
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 5, 6, 3)), dtype)
    exact = np.float64(x)
    for mine, expected in [
        (filters.invert(x), 1 - exact),
        (filters.brightness(x, 0.1), exact + 0.1),
        (filters.contrast(x, 1.3), 1.3 * (exact - 0.5) + 0.5),
        (filters.gamma(x, 2.2), exact**2.2),
        (filters.threshold(x, 0.5), exact > 0.5),
    ]:
        assert mine.dtype == dtype
        step = max(float(jnp.finfo(dtype).eps) / 2, 2e-16)
        # What is rounded to 16 bits shows no rounding before; of a contrast near 0, that of 1 does.
        rounding, near_0 = (1.01 * step, 1e-6) if step > 1e-4 else (4 * step, 4 * step)
        np.testing.assert_allclose(np.float64(mine), expected, rtol=rounding, atol=near_0)


@pytest.mark.parametrize("exponent", [0.45, 1, 2.2, 3])
def test_gamma_is_scikit_images(exponent):
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(filters.gamma(every, exponent), ski.adjust_gamma(every, exponent))
    x = np.random.default_rng(0).uniform(size=(2, 5, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(filters.gamma(x, exponent), ski.adjust_gamma(x, exponent), rtol=1e-5)


def equalised(x, **how):
    """scikit-image's, of every example and channel by itself."""
    x = np.moveaxis(np.asarray(x), 3, 1)
    y = [[ski.equalize_hist(channel, **how) for channel in example] for example in x]
    return np.moveaxis(np.array(y), 1, 3)


PICTURES = {
    "many greys": lambda rng: rng.normal(3, 20, (2, 17, 13, 2)),
    "shifted": lambda rng: 100 + rng.uniform(size=(2, 17, 13, 2)),
    # Greys that stand on edges of bins, as those of photographs do.
    "few greys": lambda rng: rng.integers(10, 201, (2, 17, 13, 2)) / 255,
    "fewer": lambda rng: rng.integers(0, 9, (2, 17, 13, 2)) / 8,
    "two": lambda rng: rng.integers(0, 2, (2, 17, 13, 2)).astype(float),
    "constant": lambda rng: np.full((2, 17, 13, 2), 0.7),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PICTURES)
def test_equalisation_is_scikit_images(name, dtype):
    x = PICTURES[name](np.random.default_rng(0)).astype(dtype)
    for nbins in (256, 100):
        y = equalise(x, nbins=nbins)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, equalised(x, nbins=nbins), rtol=0, atol=1e-6)
    bright = equalise(x, white=255)
    np.testing.assert_allclose(bright, 255 * equalised(x), rtol=1e-5)


@pytest.mark.parametrize("nbins", [1, 7, 100, 256])
def test_edges_of_bins_are_numpys_to_the_bit(nbins):
    rng = np.random.default_rng(0)
    ranges = np.sort(rng.normal(0, 3, (50, 2)), 1).astype(np.float32)
    expected = np.stack([np.histogram_bin_edges(pair, nbins) for pair in ranges])
    assert expected.dtype == np.float32
    edges = jax.jit(jax.vmap(lambda pair: bin_edges(*pair, nbins)))(ranges)
    np.testing.assert_array_equal(edges, expected)
    one = jax.jit(lambda pair: bin_edges(*pair, nbins))(ranges[0])
    np.testing.assert_array_equal(one, expected[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_equalised_integers_are_exact(dtype):
    rng, top = np.random.default_rng(0), np.iinfo(dtype).max
    x = rng.binomial(200, 0.4, (2, 17, 13, 2)).astype(dtype)
    y = equalise(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.rint(top * equalised(x)))
    halves = equalise(row([7, 9], np.uint8))  # 127.5 and 255
    assert halves.ravel().tolist() == [128, 255]
    signed = equalise(x.astype(np.int32), white=255)
    np.testing.assert_array_equal(signed, np.rint(255 * equalised(x)))


def test_one_pixel_is_equalised_to_the_middle():
    assert equalise(row([-4], np.float32)).tolist() == [[[[0.5]]]]
    assert equalise(row([9], np.uint8)).tolist() == [[[[255]]]]


def test_equalised_narrow_floats_and_nan():
    x = np.random.default_rng(0).uniform(size=(2, 17, 13, 2)).astype(np.float32)
    narrow = jnp.asarray(x, jnp.bfloat16)
    y = equalise(narrow)
    assert y.dtype == jnp.bfloat16
    expected = equalised(np.float32(narrow))
    np.testing.assert_allclose(np.float32(y), expected, rtol=2.0**-8)
    x[:, 3, 3, 1] = np.nan
    y = np.asarray(filters.equalise_histogram(x))
    assert np.isnan(y[..., 1]).all()
    np.testing.assert_allclose(y[..., :1], equalised(x[..., :1]), atol=1e-6)


def test_gradients():
    x = jnp.asarray(np.random.default_rng(0).uniform(0.1, 1, (2, 5, 6, 2)), jnp.float32)
    for call, expected in [
        (filters.invert, -jnp.ones_like(x)),
        (lambda x: filters.brightness(x, 0.1), jnp.ones_like(x)),
        (lambda x: filters.contrast(x, 1.5), jnp.full_like(x, 1.5)),
        (lambda x: filters.gamma(x, 2.0), 2 * x),
        (lambda x: filters.threshold(x, 0.5), jnp.zeros_like(x)),
    ]:
        slope = jax.grad(lambda x, call=call: call(x).sum())(x)
        np.testing.assert_allclose(slope, expected, rtol=1e-5)
    slope = jax.jit(jax.grad(lambda x: equalise(x, nbins=8).sum()))(x)
    assert bool(jnp.isfinite(slope).all())
    assert float(jnp.abs(slope).max()) > 0
    by_factor = jax.grad(lambda factor: filters.contrast(x, factor).sum())(1.5)
    assert float(by_factor) == pytest.approx(float((x - 0.5).sum()), rel=1e-5)


def test_a_number_for_each_example():
    x = jnp.full((2, 3, 3, 2), 0.5)
    y = filters.brightness(x, jnp.array([0.0, 0.25]).reshape(2, 1, 1, 1))
    assert y[:, 0, 0, 0].tolist() == [0.5, 0.75]


@pytest.mark.usefixtures("strict_dtypes")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_under_jit_it_is_the_same(dtype):
    x = np.random.default_rng(0).uniform(0, 255, (2, 6, 5, 2)).astype(dtype)

    def chain(x):
        x = filters.gamma(filters.invert(x, white=255), 0.7, white=255)
        x = filters.contrast(filters.brightness(x, 12), 1.25, white=255)
        return filters.equalise_histogram(x, white=255), filters.threshold(x, 99, white=255)

    for actual, expected in zip(jax.jit(chain)(x), chain(x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: filters.invert(row([1], np.int32)), "white=None: x of dtype int32 does not say"),
        (lambda: filters.invert(jnp.ones((3, 3))), r"x of shape \(3, 3\) is no picture"),
        (lambda: filters.gamma(row([True], bool), 2), "x of dtype bool is no picture"),
        (
            lambda: filters.equalise_histogram(row([1], np.uint8), nbins=0),
            "nbins=0 must be a whole number, at least 1",
        ),
    ],
)
def test_errors_name_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
