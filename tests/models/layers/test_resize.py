"""Bilinear resizing by hand, and beside its definition, in every dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.resize import bilinear


def definition(x, height, width):
    """Linear between pixel centres, which are at (i + 1/2) h / height - 1/2; edges repeated."""
    for axis, size in ((1, height), (2, width)):
        length = x.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, length - 1)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def test_by_hand():
    x = jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1)
    assert bilinear(x, 1, 4).ravel().tolist() == [0, 1, 3, 4]
    # torch.nn.functional.interpolate of the same to 5, and of [0, 1, 2, 3, 4] to 3 and to 2.
    found = bilinear(x, 1, 5).ravel()
    np.testing.assert_allclose(found, [0, 0.4, 2, 3.6, 4], atol=1e-6)
    row = jnp.arange(5.0).reshape(1, 1, 5, 1)
    np.testing.assert_allclose(bilinear(row, 1, 3).ravel(), [1 / 3, 2, 11 / 3], rtol=1e-6)
    np.testing.assert_allclose(bilinear(row, 1, 2).ravel(), [0.75, 3.25], rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("size", "to"),
    [((5, 7), (33, 50)), ((9, 6), (65, 11)), ((1, 1), (4, 3)), ((8, 8), (3, 5)), ((4, 6), (4, 12))],
)
def test_it_is_the_definition(size, to):
    x = np.random.default_rng(0).normal(size=(2, *size, 3))
    found = bilinear(jnp.asarray(x), *to)
    assert (found.shape, found.dtype) == ((2, *to, 3), jnp.float64)
    np.testing.assert_allclose(found, definition(x, *to), atol=1e-12)


def test_the_same_size_is_the_same_array():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 4, 3)), jnp.float32)
    assert bilinear(x, 5, 4) is x


def test_bfloat16_is_computed_in_float32():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 4, 3)), jnp.bfloat16)
    found = bilinear(x, 11, 9)
    assert found.dtype == jnp.bfloat16
    expected = definition(np.float64(x), 11, 9).astype(np.float32)
    np.testing.assert_allclose(np.float32(found), expected, rtol=2**-8, atol=1e-6)


def test_a_gradient_adds_up():
    gradient = jax.grad(lambda x: bilinear(x, 7, 9).sum())(jnp.ones((1, 3, 4, 2)))
    assert float(gradient.sum()) == pytest.approx(7 * 9 * 2, rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "to"), [((3, 4, 5), (2, 2)), ((1, 3, 4, 5), (0, 2)), ((1, 3, 4, 5), (2, -1))]
)
def test_bad_shapes_are_named(shape, to):
    with pytest.raises(ValueError, match=f"to {to[0]}x{to[1]}: expected"):
        bilinear(jnp.zeros(shape), *to)
    with pytest.raises(ValueError, match=r"x of shape \(1, 0, 4, 5\)"):
        bilinear(jnp.zeros((1, 0, 4, 5)), 2, 2)
