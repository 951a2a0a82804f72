"""Local response normalisation against the paper's formula, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.local_response import local_response_normalise

RNG = np.random.default_rng(0)
PAPER = {"k": 2.0, "n": 5, "alpha": 1e-4, "beta": 0.75}


def by_hand(x, k, n, alpha, beta):
    """Krizhevsky et al. 2012, section 3.3, index by index."""
    x, channels = np.float64(x), x.shape[-1]
    y = np.empty_like(x)
    for at in np.ndindex(*x.shape):
        first, last = max(0, at[-1] - n // 2), min(channels - 1, at[-1] + n // 2)
        total = sum(x[(*at[:-1], j)] ** 2 for j in range(first, last + 1))
        y[at] = x[at] / (k + alpha * total) ** beta
    return y


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(2, 3, 4, 9), (3, 6), (1, 2, 2, 1), (2, 3)])
@pytest.mark.parametrize(
    "fields", [{}, {"k": 1.0, "n": 3, "alpha": 0.7, "beta": 0.5}, {"n": 1, "alpha": 3.0}]
)
def test_the_formula(shape, fields):
    x = RNG.normal(size=shape) * 30
    found = jax.jit(lambda x: local_response_normalise(x, **fields))(x)
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, by_hand(x, **(PAPER | fields)), rtol=1e-12)


def test_bfloat16_is_computed_in_float32():
    x = jnp.asarray(RNG.normal(size=(4, 64)) * 100, jnp.bfloat16)
    found = local_response_normalise(x)
    assert found.dtype == jnp.bfloat16
    expected = jnp.asarray(by_hand(np.asarray(x, np.float64), **PAPER), jnp.bfloat16)
    assert int((found != expected).sum()) <= 2  # where float32 falls on the other side of a half


def test_gradients_are_right_at_zeros_too():
    x = jnp.asarray(RNG.normal(size=(2, 7)) * 50, jnp.float32).at[0].set(0)
    step = 1.0
    weights = jnp.asarray(RNG.normal(size=x.shape), jnp.float32)

    def total(x):
        return (local_response_normalise(x) * weights).sum()

    gradient = jax.jit(jax.grad(total))(x)
    for at in [(0, 0), (0, 6), (1, 0), (1, 3)]:
        one = np.zeros(x.shape)
        one[at] = step * 1e-3
        sides = [(by_hand(x + s * one, **PAPER) * np.asarray(weights)).sum() for s in (1, -1)]
        assert float(gradient[at]) == pytest.approx((sides[0] - sides[1]) / 2e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 0.0}, "k=0.0 must be above 0"),
        ({"n": 4}, "n=4 must be odd"),
        ({"n": -1}, "n=-1 must be odd and at least 1"),
    ],
)
def test_bad_numbers_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        local_response_normalise(jnp.ones((1, 3)), **fields)


def test_integers_are_refused():
    with pytest.raises(ValueError, match="x of dtype int32"):
        local_response_normalise(jnp.ones((1, 3), jnp.int32))
