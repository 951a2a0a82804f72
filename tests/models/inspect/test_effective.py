"""The effective receptive field of kernels of ones, by hand, and within the theoretical one."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from models.inspect.effective import effective_fields


class Two(nn.Module):
    """Two 3x3 convolutions of ones, the second at stride 2."""

    @nn.compact
    def __call__(self, x):
        for number, stride in enumerate((1, 2), 1):
            x = nn.Conv(1, (3, 3), strides=stride, use_bias=False, name=f"conv{number}")(x)
        return x


def ones(channels):
    shapes = {"conv1": (3, 3, channels, 1), "conv2": (3, 3, 1, 1)}
    return {"params": {name: {"kernel": jnp.ones(shape)} for name, shape in shapes.items()}}


def test_two_convolutions_of_ones_count_as_triangles():
    x = jnp.zeros((2, 9, 9, 3))
    found = effective_fields(Two(), ones(3), x, names=("conv1", "conv2"))
    once, twice = np.array([1, 1, 1]), np.array([1, 2, 3, 2, 1])
    # Three channels, each of weight 1; the middle one of 5 positions at stride 2 is at 4.
    wanted = np.zeros((9, 9))
    wanted[3:6, 3:6] = 3 * np.outer(once, once)
    np.testing.assert_allclose(found["conv1"], wanted)
    wanted = np.zeros((9, 9))
    wanted[2:7, 2:7] = 3 * np.outer(twice, twice)
    np.testing.assert_allclose(found["conv2"], wanted)


def test_an_unknown_map_is_refused():
    x = jnp.zeros((1, 9, 9, 1))
    with pytest.raises(ValueError, match="layer='conv3' is no map of Two"):
        effective_fields(Two(), ones(1), x, names=("conv3",))
