"""Batch normalisation against its formula, Flax's where that is exact, and its refusals."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from models.layers.norm import BatchNorm, FrozenBatchNorm, NoNorm

RNG = np.random.default_rng(0)
X = RNG.normal(2, 3, size=(6, 3, 2, 4)).astype(np.float32)
VARIABLES = {
    "params": {
        "scale": RNG.uniform(0.5, 2, 4).astype(np.float32),
        "bias": RNG.normal(size=4).astype(np.float32),
    },
    "batch_stats": {
        "mean": RNG.normal(size=4).astype(np.float32),
        "var": RNG.uniform(0.5, 2, 4).astype(np.float32),
    },
}


def apply(norm, x, variables=VARIABLES, **kwargs):
    """Output and updated batch statistics."""
    y, updated = norm.apply(variables, jnp.asarray(x), mutable=["batch_stats"], **kwargs)
    return y, updated["batch_stats"]


def formula(x, mean, var, epsilon=1e-5):
    params = VARIABLES["params"]
    return (x - mean) / np.sqrt(var + epsilon) * params["scale"] + params["bias"]


@pytest.mark.parametrize("shape", [(36, 4), (6, 6, 4), (6, 3, 2, 4)])
def test_training_normalises_by_the_batch(shape):
    x = np.float64(X).reshape(-1, 4)
    y, _ = apply(BatchNorm(), X.reshape(shape), train=True)
    expected = formula(x, x.mean(0), x.var(0)).reshape(shape)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_evaluation_normalises_by_the_running_statistics():
    y, after = apply(BatchNorm(epsilon=0.1), X, train=False)
    stats = VARIABLES["batch_stats"]
    np.testing.assert_allclose(y, formula(X, stats["mean"], stats["var"], 0.1), atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after, stats)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_running_statistics_move_in_training(unbiased, momentum):
    _, after = apply(BatchNorm(momentum=momentum, unbiased=unbiased), X, train=True)
    x, before = np.float64(X).reshape(-1, 4), VARIABLES["batch_stats"]
    for name, batch in (("mean", x.mean(0)), ("var", x.var(0, ddof=int(unbiased)))):
        expected = momentum * before[name] + (1 - momentum) * batch
        np.testing.assert_allclose(after[name], expected, rtol=1e-5)


def test_names_shapes_and_values_are_flaxs():
    mine = BatchNorm().init(jax.random.key(0), X, train=True)
    theirs = nn.BatchNorm().init(jax.random.key(0), X, use_running_average=False)
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    norm = nn.BatchNorm(momentum=0.9, use_fast_variance=False)
    y, updated = norm.apply(VARIABLES, X, use_running_average=False, mutable=["batch_stats"])
    y_mine, after = apply(BatchNorm(), X, train=True)
    np.testing.assert_allclose(y_mine, y, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        after,
        dict(updated)["batch_stats"],
    )


def test_a_large_mean_does_not_hide_the_variance():
    x = RNG.normal(size=(128, 16, 16, 2)) + 1e4
    x = x.astype(np.float32)
    norm = BatchNorm(momentum=0.0)
    y, after = apply(norm, x, norm.init(jax.random.key(0), x, train=False), train=True)
    exact = np.float64(x)
    np.testing.assert_allclose(after["var"], exact.var((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(after["mean"], exact.mean((0, 1, 2)), rtol=1e-6)
    expected = (exact - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
    np.testing.assert_allclose(y, expected, atol=0.02)


def test_the_order_is_normalise_add_activate():
    add = jnp.asarray(RNG.normal(size=X.shape).astype(np.float32))
    plain, _ = apply(BatchNorm(), X, train=True)
    for kwargs, expected in [
        ({"act": nn.relu}, nn.relu(plain)),
        ({"add": add}, plain + add),
        ({"add": add, "act": nn.relu}, nn.relu(plain + add)),
    ]:
        y, _ = apply(BatchNorm(), X, train=True, **kwargs)
        np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_gradients_are_those_of_the_formula():
    weights = RNG.normal(size=X.shape)

    def mine(x, params):
        variables = {"params": params, "batch_stats": VARIABLES["batch_stats"]}
        y, _ = BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])
        return (y * weights).sum()

    x = jnp.float64(X)
    params = jax.tree.map(jnp.float64, VARIABLES["params"])
    by_x, by_params = jax.grad(mine, (0, 1))(x, params)
    axes, count = (0, 1, 2), x.size // 4
    mean, std = x.mean(axes, keepdims=True), jnp.sqrt(x.var(axes, keepdims=True) + 1e-5)
    normal = (x - mean) / std
    # Ioffe & Szegedy 2015, section 3, folded into one line.
    g = weights * params["scale"].reshape(1, 1, 1, 4)
    expected = (
        g - g.mean(axes, keepdims=True) - normal * (g * normal).sum(axes, keepdims=True) / count
    ) / std
    np.testing.assert_allclose(by_x, expected, atol=1e-12)
    np.testing.assert_allclose(by_params["scale"], (weights * normal).sum(axes), atol=1e-12)
    np.testing.assert_allclose(by_params["bias"], weights.sum(axes), atol=1e-12)


@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_keeps_its_statistics_in_float32(train):
    x = jnp.asarray(X, jnp.bfloat16)
    norm = BatchNorm(dtype="bfloat16")
    variables = norm.init(jax.random.key(0), x, train=False)
    y, after = apply(norm, x, variables, train=train, act=nn.relu, add=x)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, after))} == {np.dtype(np.float32)}
    wide, _ = apply(BatchNorm(), np.float32(x), variables, train=train, add=np.float32(x))
    np.testing.assert_array_equal(y, nn.relu(wide).astype(jnp.bfloat16))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [None, "float64"])
@pytest.mark.parametrize("given", [np.float32, np.float64])
def test_float64_is_float64_throughout(dtype, given):
    norm = BatchNorm(dtype=dtype, param_dtype="float64", momentum=0.0)
    x = jnp.asarray(X, given)
    variables = norm.init(jax.random.key(0), x, train=False)
    y, after = apply(norm, x, variables, train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, after, y))} == {np.dtype(np.float64)}
    mean, var = np.float64(X).mean((0, 1, 2)), np.float64(X).var((0, 1, 2))
    np.testing.assert_allclose(y, (np.float64(X) - mean) / np.sqrt(var + 1e-5), atol=1e-13)
    np.testing.assert_allclose(after["mean"], mean, rtol=1e-13)
    # By the running statistics, which are now the batch's.
    running, _ = apply(norm, x, {**variables, "batch_stats": after}, train=False)
    np.testing.assert_allclose(running, y, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_running_statistics_keep_their_dtype():
    _, after = apply(BatchNorm(), np.float64(X), jax.tree.map(jnp.float32, VARIABLES), train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {np.dtype(np.float32)}


def test_one_value_a_channel_is_refused_in_training():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return BatchNorm(name="last")(x, train=train)

    x = jnp.ones((1, 1, 1, 4))
    variables = Network().init(jax.random.key(0), x, train=False)
    message = r"last: x of shape \(1, 1, 1, 4\) has 1 value\(s\) a channel"
    with pytest.raises(ValueError, match=message):
        Network().apply(variables, x, train=True, mutable=["batch_stats"])
    assert Network().apply(variables, x, train=False).shape == x.shape
    for enough in (jnp.ones((2, 1, 1, 4)), jnp.ones((1, 1, 2, 4))):
        Network().apply(variables, enough, train=True, mutable=["batch_stats"])


def test_train_has_no_default():
    with pytest.raises(TypeError, match="train"):
        BatchNorm().init(jax.random.key(0), X)


def test_under_jit_it_sees_the_global_batch():
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    x = RNG.normal(size=(8, 2, 2, 4)).astype(np.float32) + np.arange(8).reshape(8, 1, 1, 1)
    x = x.astype(np.float32)
    alone = apply(BatchNorm(), x, train=True)
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    spread = jax.jit(lambda x: apply(BatchNorm(), x, train=True))(sharded)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), spread, alone)


def test_a_frozen_norm_is_moved_by_nothing():
    def loss(params, x):
        variables = {**VARIABLES, "params": params}
        y, after = apply(FrozenBatchNorm(), x, variables, train=True, act=nn.relu)
        return jnp.sum(y), (y, after)

    both = jax.grad(loss, argnums=(0, 1), has_aux=True)
    (params, x), (y, after) = both(VARIABLES["params"], jnp.asarray(X))
    stats = VARIABLES["batch_stats"]
    expected = np.maximum(formula(X, stats["mean"], stats["var"]), 0)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after, stats)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(params))
    slope = VARIABLES["params"]["scale"] / np.sqrt(stats["var"] + 1e-5)
    np.testing.assert_allclose(x, np.where(expected > 0, slope, 0), rtol=1e-5)


def test_a_frozen_norm_has_the_names_of_the_other():
    ours = FrozenBatchNorm().init(jax.random.key(0), X, train=True)
    jax.tree.map(
        np.testing.assert_array_equal, ours, BatchNorm().init(jax.random.key(0), X, train=True)
    )


def test_without_normalisation_a_bias_is_added_and_nothing_else():
    bias = VARIABLES["params"]["bias"]
    add = X[::-1].copy()
    for train in (False, True):
        how = {"train": train, "act": nn.relu, "add": jnp.asarray(add)}
        y = NoNorm().apply({"params": {"bias": bias}}, jnp.asarray(X), **how)
        np.testing.assert_allclose(y, np.maximum(X + bias + add, 0), rtol=1e-6)
    made = NoNorm().init(jax.random.key(0), jnp.asarray(X), train=True)
    assert jax.tree.map(jnp.shape, made) == {"params": {"bias": (4,)}}
    np.testing.assert_array_equal(made["params"]["bias"], 0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("given", "dtype", "param_dtype", "out"),
    [
        ("float32", None, "float32", "float32"),
        ("bfloat16", "bfloat16", "float32", "bfloat16"),
        ("bfloat16", None, "float32", "float32"),
        ("float32", None, "float64", "float64"),
        ("float64", "float64", "float64", "float64"),
    ],
)
def test_dtypes_without_normalisation(given, dtype, param_dtype, out):
    norm = NoNorm(dtype=dtype, param_dtype=param_dtype)
    x = jax.ShapeDtypeStruct((2, 3, 4), given)
    y, made = jax.eval_shape(
        lambda x: norm.init_with_output(jax.random.key(0), x, train=True, add=x), x
    )
    assert (y.dtype, made["params"]["bias"].dtype) == (out, param_dtype)
