"""What every network of series is held to."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import models
from models.layers.norm import BatchNorm

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
# Variants, the steps of a series that each takes, the least it takes, and fields of a tiny one.
FAMILIES = {
    "linear1d": (10, 1, {}),
    "mlp1d": (10, 1, {"widths": (6, 6)}),
    "cnn1d": (17, 3, {"channels": (4, 5, 6)}),
    "fcn1d": (17, 1, {"channels": (4, 6), "kernels": (8, 3)}),
    "resnet1d": (17, 1, {"channels": (4, 6), "stages": (1, 2), "kernels": (8, 3)}),
    "resnet1d_small": (17, 1, {"channels": (4, 6), "stages": (1, 1)}),
    "tcn": (17, 1, {"channels": (4, 6, 6), "kernel": 3}),
    "m5": (190, 4, {"channels": (4, 6)}),
}
FLAT = {"linear1d", "mlp1d"}
ANY_LENGTH = [name for name in FAMILIES if name not in FLAT | {"cnn1d"}]
CHANNELS = 2


def shape(name, batch=2):
    return (batch, FAMILIES[name][0], CHANNELS)


def tiny(name, **fields):
    return models.create(name, num_classes=3, **(FAMILIES[name][2] | fields))


def tree(network, shape, dtype="float32", *, train=False):
    """Shapes and dtypes of the output and of the variables; nothing is computed."""
    init = partial(network.init_with_output, train=train)
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))


def paths(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return ["/".join(key.key for key in path) + f" {leaf.shape}" for path, leaf in leaves]


def dtypes(variables):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(variables)}


def drawn(network, shape, copies=1):
    """Variables of several networks, drawn so that no scale is 1, no bias and no mean 0."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name, shape = path[-1].key, (copies, *leaf.shape)
        if name in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            fan_in = np.prod(leaf.shape[:-1]) if name == "kernel" else 4
            value = rng.normal(size=shape) * (2 / fan_in) ** 0.5
        return value.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, tree(network, shape)[1])


@pytest.mark.parametrize("name", [*FAMILIES, "tcn_small"])
def test_parameter_paths_are_an_interface(name):
    """Weights that people have saved carry these paths and shapes."""
    _, variables = tree(models.create(name, num_classes=10), (2, 40, 1))
    assert paths(variables) == (GOLDEN / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize("name", models.names("sequence"))
def test_what_a_backend_brings_is_taken_by_every_network(name):
    fields = {"conv_general_dilated": lax.conv_general_dilated, "norm": BatchNorm}
    models.create(name, num_classes=10, **fields)
    with pytest.raises(TypeError, match="no_such_field"):
        models.create(name, num_classes=10, no_such_field=1)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in FLAT])
def test_every_convolution_goes_through_the_given_one(name):
    seen = []

    def conv(lhs, rhs, *args, **kwargs):
        seen.append((lhs.dtype, rhs.dtype))
        return lax.conv_general_dilated(lhs, rhs, *args, **kwargs)

    network = tiny(name, dtype="bfloat16", conv_general_dilated=conv)
    _, variables = tree(network, shape(name))
    kernels = [p for p in paths(variables["params"]) if "kernel" in p and "head" not in p]
    assert len(seen) == len(kernels)
    assert set(seen) == {(jnp.dtype("bfloat16"),) * 2}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "param_dtype", "given", "logits"),
    [
        (None, "float32", "float32", "float32"),
        ("bfloat16", "float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16", "float32"),
        ("float64", "float64", "float64", "float64"),
        (None, "float64", "float32", "float64"),
    ],
)
def test_dtypes(name, dtype, param_dtype, given, logits):
    network = tiny(name, dtype=dtype, param_dtype=param_dtype)
    out, made = tree(network, shape(name), given, train=True)
    assert (out.shape, out.dtype) == ((2, 3), logits)
    assert dtypes(made["params"]) == {param_dtype}
    assert dtypes(made) <= {param_dtype, logits}
    length = jax.ShapeDtypeStruct((2,), "int32")
    x = jax.ShapeDtypeStruct(shape(name), given)
    apply = partial(network.apply, train=True, mutable=["batch_stats"])
    again, stats = jax.eval_shape(lambda v, x, n: apply(v, x, length=n), made, x, length)
    assert (again.shape, again.dtype) == (out.shape, out.dtype)
    assert dtypes(stats) == dtypes(made.get("batch_stats", {}))


@pytest.mark.parametrize("name", FAMILIES)
def test_training_reaches_every_parameter_of_each_of_several_seeds(name):
    """Two networks in one program, as `vmap` over states trains them; of padded series."""
    network = tiny(name)
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape(name, 4)).astype(np.float32)
    length = np.array([shape(name)[1], 9, 0, 12], np.int32)
    variables = drawn(network, x.shape, copies=2)
    params = variables.pop("params")

    def gradient(params, rest, weights):
        def loss(params):
            how = {"train": True, "length": length, "mutable": list(rest)}
            logits, updated = network.apply({"params": params, **rest}, x, **how)
            return (logits * weights).sum(), updated

        return jax.grad(loss, has_aux=True)(params)

    weights = rng.normal(size=(2, 4, 3)).astype(np.float32)
    found, updated = jax.jit(jax.vmap(gradient))(params, variables, weights)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for path, leaf in zip(paths(found), jax.tree.leaves(found), strict=True):
        assert bool(jnp.isfinite(leaf).all()), path
        assert bool((jnp.abs(leaf).reshape(2, -1).max(1) > 0).all()), path
        assert bool((leaf[0] != leaf[1]).any()), path
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), updated, variables)
    assert all(jax.tree.leaves(moved)), moved


def near(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), actual, expected
    )


def padded(name):
    """A whole series, a short one and none, on one step more; filled up with what counts not."""
    steps = shape(name)[1]
    length = np.array([steps, steps - 6 if name != "m5" else 101, 0], np.int32)
    x = np.random.default_rng(0).normal(size=(3, steps + 1, CHANNELS)).astype(np.float32)
    x[np.arange(steps + 1) >= length[:, None]] = 50
    return x, length


def one(network, shape):
    """Variables of one network."""
    return jax.tree.map(lambda leaf: leaf[0], drawn(network, shape))


@pytest.mark.parametrize("name", ANY_LENGTH)
def test_a_padded_series_gives_what_it_gives_alone(name):
    """In inference; whatever stands in its padding, and however much of it there is."""
    network = tiny(name)
    x, length = padded(name)
    variables = one(network, x.shape)
    apply = jax.jit(partial(network.apply, train=False))
    y = apply(variables, x, length=length)
    for row in (0, 1):
        near(y[row], apply(variables, x[row : row + 1, : length[row]])[0])
    near(y[2], variables["params"]["head"]["bias"])


@pytest.mark.parametrize("name", ["resnet1d_small", "tcn"])
def test_steps_of_a_padded_series_are_those_that_it_has_alone(name):
    network = tiny(name, read="steps")
    x, length = padded(name)
    variables = one(network, x.shape)
    apply = jax.jit(partial(network.apply, train=False))
    y = apply(variables, x, length=length)
    alone = apply(variables, x[1:2, : length[1]])[0]
    near(y[1, : len(alone)], alone)
    bias = variables["params"]["head"]["bias"]
    near(y[1, len(alone) :], np.broadcast_to(bias, y[1, len(alone) :].shape))


@pytest.mark.parametrize("name", ANY_LENGTH)
def test_a_padded_series_trains_as_it_does_alone(name):
    """Logits and new batch statistics of a batch of one, whose statistics they are."""
    network = tiny(name)
    x, length = (of[1:2] for of in padded(name))
    variables = one(network, x.shape)
    trained = jax.jit(partial(network.apply, train=True, mutable=["batch_stats"]))
    near(trained(variables, x, length=length), trained(variables, x[:, : length[0]]))


def test_gradients_of_a_padded_series_are_those_that_it_has_alone():
    network = tiny("resnet1d_small")
    x, length = (of[1:2] for of in padded("resnet1d_small"))
    variables = one(network, x.shape)

    def loss(params, x, length=None):
        how = {"train": True, "length": length, "mutable": ["batch_stats"]}
        return jnp.sin(network.apply(variables | {"params": params}, x, **how)[0]).sum()

    found, expected = (
        jax.jit(jax.grad(loss))(variables["params"], *of)
        for of in ((x, length), (x[:, : length[0]],))
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("tcn", {"channels": (3,), "kernel": 2}),
        ("resnet1d", {"channels": (CHANNELS,), "stages": (1,), "kernels": (2,)}),
    ],
)
def test_no_gradient_sees_what_stands_in_the_padding(name, fields):
    """NaN times a cotangent of 0 is NaN: where a shortcut reads the input as it is."""
    network = models.create(name, num_classes=2, **fields)
    x, length = np.full((2, 6, CHANNELS), np.nan, np.float32), np.array([4, 0], np.int32)
    x[0, :4] = np.random.default_rng(0).normal(size=(4, CHANNELS))
    variables = one(network, x.shape)
    params = variables.pop("params")

    def loss(params):
        how = {"train": True, "length": length, "mutable": ["batch_stats"]}
        return network.apply({"params": params, **variables}, x, **how)[0].sum()

    found = jax.jit(jax.grad(loss))(params)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("name", ["linear1d", "mlp1d", "cnn1d"])
def test_what_is_beyond_a_series_of_a_fixed_length_counts_as_0(name):
    network = tiny(name)
    x = np.random.default_rng(0).normal(size=shape(name)).astype(np.float32)
    variables = one(network, x.shape)
    length = np.array([x.shape[1], 6], np.int32)
    apply = jax.jit(partial(network.apply, train=False))
    y = apply(variables, x, length=length)
    near(y[0], apply(variables, x)[0])
    x[1, 6:] = 50
    near(apply(variables, x, length=length), y)
    x[1, 6:] = 0
    if name in FLAT:
        near(y, apply(variables, x))


@pytest.mark.parametrize("name", FAMILIES)
def test_bad_series_are_named(name):
    network, given = tiny(name), shape(name)
    least = FAMILIES[name][1]
    with pytest.raises(ValueError, match="expected 3 axes"):
        tree(network, given[1:])
    with pytest.raises(ValueError, match="series of dtype uint8"):
        tree(network, given, "uint8")
    assert tree(network, (1, least, CHANNELS))[0].shape == (1, 3)
    with pytest.raises(ValueError, match=f"0 steps are too few.* takes is {least}"):
        tree(network, (2, 0, CHANNELS))
    _, variables = tree(network, given)
    other = jax.ShapeDtypeStruct((*given[:2], 3), jnp.float32)
    message = "whose weights are for 20" if name in FLAT else r"3 channel\(s\), the weights of .* 2"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(network.apply, train=False), variables, other)
    x = jax.ShapeDtypeStruct(given, jnp.float32)
    for length in (((3,), "int32"), ((2,), "float32"), ((2,), "uint8")):
        with pytest.raises(ValueError, match=r"length of shape .*: expected \(2,\)"):
            jax.eval_shape(
                lambda v, x, n: network.apply(v, x, train=False, length=n),
                variables,
                x,
                jax.ShapeDtypeStruct(*length),
            )


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("mlp1d", {"widths": (3, 0)}, r"widths=\(3, 0\)"),
        ("mlp1d", {"widths": (3, 4)}, r"widths=\(3, 4\) must be equal"),
        ("cnn1d", {"channels": (3, 4)}, r"channels=\(3, 4\) and kernels=\(5, 3, 3\)"),
        ("fcn1d", {"kernels": (3, 4)}, r"channels=\(128, 256, 128\) and kernels=\(3, 4\)"),
        ("resnet1d", {"stages": (1, 1)}, r"stages=\(1, 1\) and channels=\(64, 128, 128\)"),
        ("resnet1d", {"kernels": ()}, r"kernels=\(\) must be at least one"),
        ("resnet1d", {"stride": 0}, "stride=0 must be at least 1"),
        ("resnet1d", {"read": "first"}, "read='first' is none of mean, last, steps"),
        ("tcn", {"channels": ()}, r"channels=\(\) must be at least one"),
        ("tcn", {"kernel": 0}, "kernel=0 must be a whole number, at least 1"),
        ("tcn", {"dropout": 1.0}, r"dropout=1.0 must be a rate"),
        ("m5", {"channels": (3, 0)}, r"channels=\(3, 0\)"),
        ("m5", {"num_classes": 0}, "num_classes=0 must be at least 1"),
        ("cnn1d", {"num_classes": 0}, "num_classes=0 must be at least 1"),
        ("linear1d", {"num_classes": 0}, "num_classes=0 must be at least 1"),
    ],
)
def test_bad_fields_are_refused_at_construction(name, fields, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, **({"num_classes": 10} | fields))
