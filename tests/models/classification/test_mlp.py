"""The MLP by hand, and the size of one on a large picture."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models

RNG = np.random.default_rng(0)


def first_kernel(shape, width):
    network = models.create("mlp", num_classes=10, widths=(width,))
    init = partial(network.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    return variables["params"]["hidden1"]["kernel"]


def test_a_picture_of_full_size_into_half_as_many_units():
    """19 trillion weights in one layer; only their shape is computed."""
    pixels = 3 * 1920 * 1080
    assert first_kernel((1, 1080, 1920, 3), pixels // 2).size == 19_349_176_320_000


@pytest.mark.parametrize("widths", [(), (4,), (5, 4, 3, 2)])
@pytest.mark.usefixtures("x64")
def test_any_depth_by_hand(widths):
    network = models.create("mlp", num_classes=3, widths=widths, param_dtype="float64")
    x = RNG.normal(size=(2, 3, 4, 2))
    variables = jax.jit(partial(network.init, train=False))(jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    y = x.reshape(2, 24)
    for number in range(1, len(widths) + 1):
        layer = jax.device_get(variables["params"][f"hidden{number}"])
        y = np.maximum(y @ layer["kernel"] + layer["bias"], 0)
    head = jax.device_get(variables["params"]["head"])
    expected = y @ head["kernel"] + head["bias"]
    assert np.abs(expected).max() > 0.1
    found = jax.jit(partial(network.apply, train=True))(variables, x)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_linear_classifier_has_the_dtype_that_is_asked_for():
    network = models.create("mlp", num_classes=3, widths=(), dtype="bfloat16")
    x = jnp.full((1, 1, 1, 1), 1 + 2**-10)
    ones = {"params": {"head": {"kernel": jnp.ones((1, 3)), "bias": jnp.zeros(3)}}}
    logits = network.apply(ones, x, train=False)
    assert logits.dtype == jnp.float32
    assert logits.tolist() == [[1, 1, 1]]
