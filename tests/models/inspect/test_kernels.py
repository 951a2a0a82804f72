"""Kernels for display: which layer is the first, and numbers by hand."""

import jax
import numpy as np
import pytest

import models
from models.inspect.kernels import first_kernels, grid, tiles


@pytest.mark.parametrize(
    ("name", "shape", "path", "size"),
    [
        ("lenet5", (1, 32, 32, 1), "backbone/conv1", (5, 5, 1, 6)),
        ("resnet20", (1, 32, 32, 3), "backbone/stem/conv", (3, 3, 3, 16)),
        ("fcn1d", (1, 16, 2), "backbone/conv1", (8, 2, 128)),
        ("mlp", (1, 4, 6, 1), "hidden1", (4, 6, 1, 256)),
        ("linear1d", (1, 8, 1), "head", (8, 1, 3)),
    ],
)
def test_the_first_layer_is_found(name, shape, path, size):
    network = models.create(name, num_classes=3)
    x = jax.ShapeDtypeStruct(shape, "f4")
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), x)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    found, kernels = first_kernels(network, variables, x)
    assert (found, kernels.shape) == (path, size)


def test_a_network_without_kernels_is_refused():
    import flax.linen as nn

    class Sum(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x.sum()

    with pytest.raises(ValueError, match="Sum has no layer with kernels of 4 axes"):
        first_kernels(Sum(), {"params": {}}, np.ones((1, 2, 2, 1), np.float32))


def test_each_kernel_is_scaled_by_its_own_largest_weight_around_0():
    kernels = np.zeros((1, 2, 1, 3))
    kernels[..., 0] = [[[-4], [2]]]
    kernels[..., 1] = [[[0.1], [0.1]]]
    np.testing.assert_allclose(tiles(kernels), [[[-1, 0.5]], [[1, 1]], [[0, 0]]])


def test_three_channels_are_colours_and_two_stand_side_by_side():
    kernels = np.arange(12.0).reshape(1, 2, 3, 2)
    found = tiles(kernels)
    assert found.shape == (2, 1, 2, 3)
    np.testing.assert_allclose(found[1, 0, 1], np.array([7, 9, 11]) / 11)
    np.testing.assert_allclose(tiles(kernels[:, :, :2])[3], [[3 / 9, 1]])


def test_a_grid_has_gaps_between_and_nothing_behind():
    whole = grid(np.arange(1.0, 4).reshape(3, 1, 1), 2)
    np.testing.assert_array_equal(whole, [[1, np.nan, 2], [np.nan] * 3, [3, np.nan, np.nan]])
    assert grid(np.ones((1, 2, 2, 3)), 5).shape == (2, 2, 3)
    with pytest.raises(ValueError, match="columns=0"):
        grid(np.ones((1, 2, 2)), 0)
