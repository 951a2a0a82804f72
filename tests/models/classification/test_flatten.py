"""The head that flattens: its order, its dropout, its last product."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.classification.flatten import FlattenClassifier

MAP = np.random.default_rng(0).uniform(1, 2, (2, 2, 3, 5))


class Fixed(nn.Module):
    """A backbone whose last map is always the same."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, *, train):
        return (jnp.zeros((1, 1, 1, 1)), jnp.asarray(MAP, self.dtype))


def made(dropout=(0.0, 0.0), dtype="float32", **fields):
    how = {"num_classes": 3, "size": 2, "widths": (4,), "dropout": dropout}
    network = FlattenClassifier(Fixed(dtype), **(how | fields))
    return network, network.init(jax.random.key(0), jnp.zeros(()), train=False)


def test_the_flattened_order_is_rows_columns_channels():
    network, variables = made(widths=(), dropout=(0.0,))
    head = jax.device_get(variables["params"]["head"])
    # Three columns to two windows: they share the middle one.
    pooled = np.stack([MAP[:, :, :2].mean(2), MAP[:, :, 1:].mean(2)], 2)
    expected = pooled.reshape(2, 20) @ head["kernel"] + head["bias"]
    found = network.apply(variables, jnp.zeros(()), train=False)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_last_product_is_never_rounded_to_less_than_float32():
    network, variables = made(dtype="bfloat16")

    def logits(x):
        return network.apply(variables, x, train=False)

    with jax.default_matmul_precision("bfloat16"):
        text = jax.jit(logits).lower(jnp.zeros(())).as_text()
    assert text.count("precision = [HIGHEST, HIGHEST]") == 1
    assert text.count("precision = [DEFAULT, DEFAULT]") == 1
    assert logits(jnp.zeros(())).dtype == jnp.float32


@pytest.mark.parametrize("place", [0, 1, 2, None])
def test_where_units_drop(place):
    """All weights 1: a layer that drops what it takes in loses a part of the sum, doubled."""
    rates = tuple(0.5 * (place == n) for n in range(3))
    network, variables = made(widths=(64, 32), dropout=rates, dense_init=nn.initializers.ones)
    _, seen = network.apply(
        variables,
        jnp.zeros(()),
        train=True,
        rngs={"dropout": jax.random.key(3)},
        capture_intermediates=lambda module, _: isinstance(module, nn.Dense),
    )
    taken = np.stack([MAP[:, :, :2].mean(2), MAP[:, :, 1:].mean(2)], 2).reshape(2, 20).sum(1)
    for number, (name, width) in enumerate([("hidden1", 64), ("hidden2", 32), ("head", 3)]):
        sums = np.asarray(seen["intermediates"][name]["__call__"][0])
        assert sums.shape == (2, width)
        # Every unit of a layer sees the same, so drops are of what came in.
        np.testing.assert_allclose(sums, sums[:, :1].repeat(width, 1), rtol=1e-5)
        same = np.allclose(sums[:, 0], taken, rtol=1e-5)
        assert same == (number != place)
        taken = sums[:, 0] * width


def test_evaluation_drops_nothing_and_needs_no_key():
    network, variables = made(dropout=(0.5, 0.5))
    plain, _ = made()
    found, expected = (n.apply(variables, jnp.zeros(()), train=False) for n in (network, plain))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "dropout"),
    [
        ("alexnet", (0.5, 0.5, 0.0)),
        ("alexnet_2012", (0.0, 0.5, 0.5)),
        ("vgg16", (0.0, 0.5, 0.5)),
        ("vgg16_bn", (0.0, 0.5, 0.5)),
    ],
)
def test_variants_drop_where_their_sources_do(name, dropout):
    assert models.create(name, num_classes=10).dropout == dropout
