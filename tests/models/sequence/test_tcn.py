"""TCN: no output sees the future, how far it sees back, and what weight normalisation is."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models import backends
from models.sequence.tcn import TCN, WeightNormConv

FIELDS = {"channels": (3, 4, 4), "kernel": 3}


def started(network, x):
    """Its variables."""
    return jax.jit(lambda key: network.init(key, x, train=False))(jax.random.key(0))


@pytest.mark.parametrize("backend", ["onednn", "jax", "xla"])
def test_no_output_sees_the_future_and_each_sees_its_receptive_field(request, backend):
    if backend == "onednn":
        request.getfixturevalue("extension")
    chosen = backends.choose(backend, jax.devices()[:1])
    fields = {"conv_general_dilated": chosen.conv_general_dilated}
    network = TCN(**FIELDS, **fields)
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (1, 40, 1)), jnp.float32)
    made = started(network, x)
    # Without ReLU's zeros: what is seen has a gradient that is not 0.
    params = jax.tree.map(np.abs, made)

    @jax.jit
    def seen(t):
        """Which steps of the input step t of the output depends on."""
        return jax.grad(lambda x: network.apply(params, x, train=False)[0][0, t].sum())(x) != 0

    reach = network.receptive_field
    assert reach == 1 + 2 * 2 * 7 == 29
    at = np.arange(40)
    for t in (0, 11, 33, 39):
        np.testing.assert_array_equal(seen(t)[0, :, 0], (at <= t) & (at > t - reach))


@pytest.mark.parametrize(("name", "reach"), [("tcn", 1 + 2 * 6 * 255), ("tcn_small", 61)])
def test_receptive_fields_by_the_formula(name, reach):
    assert models.create(name, num_classes=1).backbone.receptive_field == reach


def test_the_future_changes_nothing_that_is_said():
    network = models.create("tcn", num_classes=2, read="steps", **FIELDS)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 20, 1)), jnp.float32)
    made = started(network, x)
    apply = jax.jit(lambda x: network.apply(made, x, train=False))
    y, other = apply(x), apply(x.at[:, 12:].set(9))
    np.testing.assert_array_equal(y[:, :12], other[:, :12])
    assert bool((y[:, 12:] != other[:, 12:]).any())


def test_the_last_step_of_a_padded_series_is_its_own():
    network = models.create("tcn", num_classes=2, **FIELDS)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 20, 1)), jnp.float32)
    made = started(network, x)
    steps = models.create("tcn", num_classes=2, read="steps", **FIELDS)

    @jax.jit
    def both(length):
        last = network.apply(made, x, train=False, length=length)
        return last, steps.apply(made, x, train=False)

    last, each = both(np.array([13], np.int32))
    np.testing.assert_allclose(last[0], each[0, 12], atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_weight_is_its_scale_in_the_direction_of_the_kernel(dtype):
    conv = WeightNormConv(2, (3,), padding=1, param_dtype=dtype)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 4)), dtype)
    made = jax.jit(conv.init)(jax.random.key(0), x)
    apply = jax.jit(conv.apply)
    assert {k: v.shape for k, v in made["params"].items()} == {
        "kernel": (3, 4, 2),
        "scale": (2,),
        "bias": (2,),
    }
    np.testing.assert_allclose(made["params"]["scale"], 2**0.5, rtol=1e-6)
    v = np.asarray(made["params"]["kernel"], np.float64)
    w = np.sqrt(2) * v / np.sqrt((v**2).sum((0, 1)))
    wide = np.pad(np.float64(x[0]), [(1, 1), (0, 0)])
    expected = sum(wide[t : t + 5] @ w[t] for t in range(3))
    np.testing.assert_allclose(apply(made, x)[0], expected, rtol=1e-5, atol=1e-6)
    larger = jax.tree.map(lambda leaf: leaf, made)
    larger["params"]["kernel"] = 7 * made["params"]["kernel"]
    np.testing.assert_allclose(apply(larger, x), apply(made, x), rtol=1e-5, atol=1e-6)


def test_a_kernel_of_zeros_has_a_finite_gradient():
    conv = WeightNormConv(2, (3,), padding=1, kernel_init=nn.initializers.zeros)
    x = jnp.ones((1, 5, 1))
    made = jax.jit(conv.init)(jax.random.key(0), x)
    found = jax.jit(jax.grad(lambda v: conv.apply(v, x).sum()))(made)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found))


def test_dropout_takes_whole_channels():
    block = TCN(channels=(8,), kernel=1, dropout=0.5, weight_norm=False)
    x = jnp.ones((4, 6, 1))
    params = jax.tree.map(np.ones_like, started(block, x))
    params["params"]["level1"]["shortcut"] = jax.tree.map(
        np.zeros_like, params["params"]["level1"]["shortcut"]
    )
    y, _ = jax.jit(lambda key: block.apply(params, x, train=True, rngs={"dropout": key}))(
        jax.random.key(1)
    )
    assert bool((y == y[:, :1]).all())
    assert 0 < float((y == 0).mean()) < 1
