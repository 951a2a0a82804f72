"""Convolution by its definition, against NumPy, SciPy, sums by hand and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from models.layers import definition
from models.layers.conv import CHANNELS_LAST

MODES = ("full", "same", "valid")
SIZES = [(7, 3), (7, 4), (6, 6), (5, 1)]


def drawn(seed, size, dtype="float32"):
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(-9, 9, size).astype(dtype)
    value = rng.normal(size=size)
    return (value + 1j * rng.normal(size=size) if "complex" in dtype else value).astype(dtype)


def test_by_hand():
    f, g = jnp.array([1, 2, 3]), jnp.array([1, 10])
    assert definition.convolve(f, g).tolist() == [1, 12, 23, 30]
    assert definition.convolve(f, g, mode="same").tolist() == [1, 12, 23]
    assert definition.convolve(f, g, mode="valid").tolist() == [12, 23]
    assert definition.correlate(f, g).tolist() == [10, 21, 32, 3]


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_it_is_numpys_and_scipys(method):
    pairs = [(drawn(0, n), drawn(1, k)) for n, k in SIZES]

    @jax.jit
    def run(pairs):
        how = [{"mode": mode, "method": method} for mode in MODES]
        return [
            (
                definition.convolve(f, g, **one),
                definition.convolve(g, f, **one),
                definition.correlate(f, g, **one),
            )
            for f, g in pairs
            for one in how
        ]

    found = iter(run(pairs))
    for f, g in pairs:
        for mode in MODES:
            y, swapped, c = next(found)
            assert y.dtype == jnp.float32
            near = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
            near(y, np.convolve(f, g, mode))
            near(y, scipy.signal.fftconvolve(f, g, mode))
            near(swapped, y)
            near(c, np.correlate(f, g, mode))


NEAR = {
    "float64": 1e-12,
    "complex64": 1e-5,
    "complex128": 1e-12,
    "int32": 1e-5,
    "bfloat16": 2.0**-7,
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("method", ["direct", "fft"])
def test_of_every_type(dtype, method):
    wide = "float32" if dtype == "bfloat16" else dtype
    f, g = (jnp.asarray(drawn(i, n, wide)).astype(dtype) for i, n in enumerate((17, 5)))
    y, c = jax.jit(
        lambda f, g: (
            definition.convolve(f, g, mode="same", method=method),
            definition.correlate(f, g, mode="valid", method=method),
        )
    )(f, g)
    floats = dtype == "int32" and method == "fft"
    assert y.dtype == c.dtype == ("float32" if floats else dtype)
    f, g = (np.asarray(one).astype(wide) for one in (f, g))
    y, c = (np.asarray(one).astype("float32" if floats else wide) for one in (y, c))
    if dtype == "int32" and method == "direct":
        np.testing.assert_array_equal(y, np.convolve(f, g, "same"))
    near = NEAR[dtype] * np.abs(np.convolve(f, g)).max()
    np.testing.assert_allclose(y, np.convolve(f, g, "same"), atol=near)
    np.testing.assert_allclose(c, np.correlate(f, g, "valid"), atol=near)


def test_long_operands_are_transformed_and_give_the_same():
    f, g = drawn(0, 600), drawn(1, definition.FFT_FROM)
    program = str(jax.make_jaxpr(definition.convolve)(f, g))
    assert "fft" in program
    assert "fft" not in str(jax.make_jaxpr(definition.convolve)(f, g[:-1]))
    np.testing.assert_allclose(jax.jit(definition.convolve)(f, g), np.convolve(f, g), atol=1e-3)


def test_a_layer_of_a_network_correlates():
    f, g = drawn(0, 12), drawn(1, 4)
    y = jax.lax.conv_general_dilated(
        f[None, :, None], g[:, None, None], (1,), "VALID", dimension_numbers=CHANNELS_LAST[1]
    )
    np.testing.assert_allclose(
        y[0, :, 0], definition.correlate(f, g, mode="valid"), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_the_gradient_of_a_convolution_is_a_correlation(method):
    f, g, weights = drawn(0, 9), drawn(1, 4), drawn(2, 12)
    of_f = jax.grad(lambda f: definition.convolve(f, g, method=method) @ weights)(f)
    np.testing.assert_allclose(of_f, np.correlate(weights, g, "valid"), rtol=1e-5, atol=1e-5)


def test_over_more_axes_by_vmap():
    f, g = drawn(0, (3, 8)), drawn(1, 4)
    y = jax.vmap(definition.convolve, (0, None))(f, g)
    np.testing.assert_allclose(y, [np.convolve(one, g) for one in f], rtol=1e-5, atol=1e-5)


def triangle(x):
    return np.maximum(1 - np.abs(x), 0)


def ramps(x):
    """Of f(t) = t on [0, 1] with itself, at x up to 1."""
    return x**3 / 6


def gaussians(x):
    """Of exp(-t^2 / 2) and exp(-2 t^2): variances 1 and 1/4 add."""
    return np.sqrt(2 * np.pi / 5) * np.exp(-(x**2) / 2.5)


def errors(f, g, closed, counts, start, stop, upto=np.inf):
    found = []
    for count in counts:
        of = functools.partial(definition.integral, f, g, start=start, stop=stop, count=count)
        x, y = map(np.asarray, jax.jit(of)())
        inside = x <= upto + 1e-9
        found.append(np.abs(y - closed(x))[inside].max())
    return found


@pytest.mark.usefixtures("x64")
def test_the_sum_goes_to_the_integral():
    """Exactly for boxes, as h^2 for what jumps at its ends, faster than any power for Gaussians."""
    box = jnp.ones_like
    assert max(errors(box, box, triangle, (9,), -0.5, 0.5)) < 1e-12
    coarse, fine = errors(lambda t: t, lambda t: t, ramps, (20, 40), 0, 1, upto=1)
    assert coarse / fine == pytest.approx(4, rel=0.02)
    wide, narrow = lambda t: jnp.exp(-(t**2) / 2), lambda t: jnp.exp(-2 * t**2)
    coarse, fine, finest = errors(wide, narrow, gaussians, (12, 24, 48), -8, 8)
    assert coarse / fine > 100
    assert finest < 1e-12 < coarse


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"f": np.ones((2, 2))}, r"f of shape \(2, 2\)"),
        ({"g": np.ones(0)}, r"g of shape \(0,\)"),
        ({"mode": "wrap"}, "mode='wrap' is none of full, same, valid"),
        ({"method": "slow"}, "method='slow' is none of auto, direct, fft"),
    ],
)
def test_what_is_wrong_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        definition.convolve(**({"f": np.ones(3), "g": np.ones(2)} | arguments))


def test_a_bad_interval_is_named():
    for bad in ({"count": 0}, {"stop": -1.0}):
        with pytest.raises(ValueError, match=r"count=.* must be at least 1 and stop="):
            definition.integral(jnp.exp, jnp.exp, **({"start": 0.0, "stop": 1.0, "count": 4} | bad))
