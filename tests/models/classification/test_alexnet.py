"""AlexNet in one tower and in two against plain NumPy; its maps, and how it starts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models

NAMES = ("alexnet", "alexnet_2012")


def tree(network, shape, dtype="float32"):
    init = partial(network.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))


def pooled(x):
    """The maximum over 3x3 at every second position."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    return windows[:, ::2, ::2].max((-1, -2))


def responded(x):
    """Krizhevsky et al. 2012, section 3.3."""
    total = np.stack(
        [
            (x[..., max(0, i - 2) : min(x.shape[-1] - 1, i + 2) + 1] ** 2).sum(-1)
            for i in range(x.shape[-1])
        ],
        -1,
    )
    return x / (2 + 1e-4 * total) ** 0.75


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NAMES)
def test_the_forward_pass(definition, name):
    two = name == "alexnet_2012"
    features = {"features": (4, 6, 6, 4, 4), "widths": (6, 5)}
    network = models.create(name, num_classes=3, param_dtype="float64", **features)
    shape = (1, 63, 66, 2)
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape) * 20
    made = tree(network, shape, "float64")
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) * 0.3, made)
    params = variables["params"]
    y = x
    moves = [(4, 2, 1), (1, 2, 2), (1, 1, 1), (1, 1, 2), (1, 1, 2)]
    for number, (stride, pad, groups) in enumerate(moves, 1):
        layer = params["backbone"][f"conv{number}"]
        groups = groups if two else 1
        args = ([stride] * 2, [(pad, pad)] * 2, [1, 1], groups)
        y = np.maximum(definition(y, layer["kernel"], *args) + layer["bias"], 0)
        y = responded(y) if two and number <= 2 else y
        y = pooled(y) if number in (1, 2, 5) else y
    assert y.shape == (1, 1, 1, 4)
    y = np.tile(y, (1, 6, 6, 1)).reshape(1, -1)
    for name in ("hidden1", "hidden2", "head"):
        y = y @ params[name]["kernel"] + params[name]["bias"]
        y = y if name == "head" else np.maximum(y, 0)
    found = jax.jit(partial(network.apply, train=False))(variables, x)
    assert np.abs(y).max() > 0.1
    np.testing.assert_allclose(found, y, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [224, 227])
def test_the_maps_are_the_papers(name, side):
    """6x6x256 from both sizes; the first map of 224 is the paper's 55x55."""
    backbone = models.create(name, num_classes=10).backbone
    apply = partial(backbone.init_with_output, train=False)
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    maps, _ = jax.eval_shape(apply, jax.random.key(0), x)
    assert [m.shape[1] for m in maps] == [{224: 55, 227: 56}[side], 27, 13, 6]
    assert tuple(m.shape[-1] for m in maps) == backbone.channels
    assert len(backbone.strides) == len(maps)


def test_the_paper_starts_with_biases_of_one_where_it_says():
    """Krizhevsky et al. 2012, section 5."""
    small = {"features": (4, 6, 6, 4, 4), "widths": (64, 64)}
    network = models.create("alexnet_2012", num_classes=3, **small)
    init = jax.jit(lambda key: network.init(key, jnp.zeros((1, 63, 63, 3)), train=False))
    params = init(jax.random.key(0))["params"]
    layers = params.pop("backbone") | params
    ones = {name for name, layer in layers.items() if bool((layer["bias"] == 1).all())}
    zeros = {name for name, layer in layers.items() if bool((layer["bias"] == 0).all())}
    assert ones == {"conv2", "conv4", "conv5", "hidden1", "hidden2"}
    assert zeros == {"conv1", "conv3", "head"}
    for name in ("conv1", "hidden1", "hidden2"):
        assert float(layers[name]["kernel"].std()) == pytest.approx(0.01, rel=0.1)


def test_one_tower_starts_as_pytorch():
    small = {"features": (16, 6, 6, 4, 4), "widths": (64, 64)}
    network = models.create("alexnet", num_classes=3, **small)
    init = jax.jit(lambda key: network.init(key, jnp.zeros((1, 63, 63, 3)), train=False))
    params = init(jax.random.key(0))["params"]
    for layer, fan_in in ((params["backbone"]["conv1"], 363), (params["hidden2"], 64)):
        largest = float(jnp.abs(layer["kernel"]).max())
        assert 0.99 < largest * fan_in**0.5 <= 1.0001
