"""The networks of MNIST-1D's table, each against its formula in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.layers.conv import output_size

X = np.random.default_rng(0).normal(size=(3, 40, 1)).astype(np.float32)


def made(name, **fields):
    """Logits for X, and the parameters in float64."""
    network = models.create(name, num_classes=10, **fields)
    variables = jax.jit(lambda key: network.init(key, X, train=False))(jax.random.key(0))
    logits = jax.jit(lambda v: network.apply(v, X, train=False))(variables)
    return logits, jax.tree.map(np.float64, variables["params"])


def dense(x, of):
    return x @ of["kernel"] + of["bias"]


def relu(x):
    return np.maximum(x, 0)


def test_logistic_regression():
    logits, p = made("linear1d")
    np.testing.assert_allclose(logits, dense(X[..., 0], p["head"]), atol=1e-5)


def test_the_second_hidden_layer_adds_to_the_first():
    logits, p = made("mlp1d")
    h = relu(dense(X[..., 0], p["hidden1"]))
    h = h + relu(dense(h, p["hidden2"]))
    np.testing.assert_allclose(logits, dense(h, p["head"]), atol=1e-5)


def test_three_convolutions_at_stride_2_and_what_they_leave_in_a_row(definition):
    logits, p = made("cnn1d")
    h = X
    for name in ("conv1", "conv2", "conv3"):
        h = relu(definition(h, p[name]["kernel"], [2], [(1, 1)], [1], 1) + p[name]["bias"])
    assert h.shape == (3, 5, 25)
    sizes = [40]
    for kernel in (5, 3, 3):
        sizes.append(output_size(sizes[-1], kernel, 2, 1))
    assert sizes == [40, 19, 10, 5]
    np.testing.assert_allclose(logits, dense(h.reshape(3, 125), p["head"]), atol=1e-5)


@pytest.mark.parametrize("name", ["linear1d", "mlp1d", "cnn1d"])
def test_weights_are_drawn_up_to_the_root_of_the_fan_in(name):
    _, params = made(name)
    for layer, p in params.items():
        reach = np.prod(p["kernel"].shape[:-1]) ** -0.5
        largest = np.abs(p["kernel"]).max()
        assert 0.9 * reach < largest <= reach, layer
        assert 0 < np.abs(p["bias"]).max() <= reach, layer


def test_another_length_than_the_weights_are_for_is_named():
    network = models.create("cnn1d", num_classes=10)
    key, x = jax.random.key(0), jax.ShapeDtypeStruct((1, 48, 1), jnp.float32)
    made = jax.eval_shape(lambda key: network.init(key, X, train=False), key)
    with pytest.raises(ValueError, match="150 values at head, whose weights are for 125"):
        jax.eval_shape(lambda v, x: network.apply(v, x, train=False), made, x)
