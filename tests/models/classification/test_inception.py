"""Inception v3: its blocks learn, and its auxiliary head is the definition's."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.classification.googlenet import Layer
from models.classification.inception import (
    AuxiliaryHead,
    InceptionA,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
    InceptionV3,
    mean_around,
)
from models.layers.norm import BatchNorm

LAYER = partial(Layer, conv=nn.Conv, norm=partial(BatchNorm, epsilon=1e-3))


def test_the_mean_around_counts_zeros_beyond_the_edge():
    x = jnp.ones((1, 3, 3, 1))
    expected = np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]]) / 9
    np.testing.assert_allclose(mean_around(x)[0, :, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (partial(InceptionA, pool_features=32), (2, 5, 4, 256)),
        (InceptionB, (2, 2, 1, 483)),
        (partial(InceptionC, inner=5), (2, 5, 4, 768)),
        (InceptionD, (2, 2, 1, 515)),
        (InceptionE, (2, 5, 4, 2048)),
    ],
)
def test_a_block_has_its_shape_and_reaches_all_that_it_learns(block, shape):
    block = block(layer=LAYER)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 4, 3)), jnp.float32)
    shapes = jax.eval_shape(partial(block.init, train=False), jax.random.key(0), x)
    draw = lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype)  # noqa: E731
    variables = jax.tree.map(draw, shapes)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(params):
        def loss(params):
            given = variables | {"params": params}
            y, _ = block.apply(given, x, train=True, mutable=["batch_stats"])
            weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
            return jnp.sum(y * weights), y

        return jax.grad(loss, has_aux=True)(params)

    gradient, y = run(variables["params"])
    assert y.shape == shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert bool(jnp.isfinite(leaf).all()), path
        assert float(jnp.abs(leaf).max()) > 1e-5, path


def test_the_auxiliary_head():
    dense = partial(nn.Dense, precision="highest")
    head = AuxiliaryHead(4, layer=LAYER, dense=dense)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 17, 19, 6)).astype(np.float32)
    init = partial(head.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.2, 1, leaf.shape), shapes)
    variables["params"]["conv1"]["conv"]["kernel"] -= 0.6
    found = jax.jit(partial(head.apply, train=False))(variables, x)

    def normed(y, name):
        p, s = variables["params"][name]["norm"], variables["batch_stats"][name]["norm"]
        y = (y - s["mean"]) / np.sqrt(s["var"] + 1e-3) * p["scale"] + p["bias"]
        return np.maximum(y, 0)

    params = variables["params"]
    # Windows begin at 0, 3, 6, 9, 12; a column after the last is left over.
    starts = range(0, 13, 3)
    rows = [[x[:, i : i + 5, j : j + 5].mean((1, 2)) for j in starts] for i in starts]
    y = np.moveaxis(np.array(rows, np.float64), 2, 0)
    y = normed(y @ params["conv0"]["conv"]["kernel"][0, 0], "conv0")
    y = normed(np.einsum("bhwc,hwcf->bf", y, params["conv1"]["conv"]["kernel"]), "conv1")
    expected = y @ params["fc"]["kernel"] + params["fc"]["bias"]
    assert 0.1 < (y > 0).mean() < 0.9
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_sizes_of_the_maps_are_the_papers():
    init = partial(InceptionV3().init_with_output, train=False)
    x = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    maps, _ = jax.eval_shape(init, jax.random.key(0), x)
    # Szegedy et al. 2015, table 1.
    assert [m.shape[1:] for m in maps[1:]] == [(35, 35, 288), (17, 17, 768), (8, 8, 2048)]
    assert maps[0].shape[1:] == (71, 71, 192)
