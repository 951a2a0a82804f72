"""What is refused as an image, and how small one may be."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from models.layers.conv import output_size
from models.layers.image import check_channels, check_image, smallest_size


def picture(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


@pytest.mark.parametrize(
    ("x", "smallest", "message"),
    [
        (picture(8, 8, 3), 1, r"image of shape \(8, 8, 3\): expected 4 axes"),
        (picture(1, 2, 8, 8, 3), 1, r"image of shape \(1, 2, 8, 8, 3\): expected 4 axes"),
        (picture(1, 8, 8, 3, dtype=jnp.uint8), 1, "image of dtype uint8: expected normalised"),
        (picture(1, 8, 8, 3, dtype=jnp.int32), 1, "image of dtype int32"),
        (picture(1, 8, 8, 3, dtype=bool), 1, "image of dtype bool"),
        (picture(1, 31, 32, 3), 32, r"\(1, 31, 32, 3\): 31x32 pixels .* is 32x32"),
        (picture(1, 32, 31, 3), 32, r"\(1, 32, 31, 3\): 32x31 pixels .* is 32x32"),
        (picture(1, 0, 8, 3), 1, r"0x8 pixels .* is 1x1"),
        (picture(1, 8, 8, 0), 1, r"\(1, 8, 8, 0\): has no channels"),
    ],
)
def test_what_is_no_image_is_named(x, smallest, message):
    with pytest.raises(ValueError, match=message):
        check_image(x, smallest=smallest)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_smallest_image_is_one(dtype):
    check_image(picture(1, 32, 40, 3, dtype=dtype), smallest=32)
    check_image(picture(1, 1, 1, 1, dtype=dtype))


class Nested(nn.Module):
    @nn.compact
    def __call__(self, x):
        check_channels(x, self, "stem", "conv")
        return Stem(name="stem")(x)


class Stem(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(4, (1, 1), name="conv")(x)


def test_channels_are_those_of_the_first_weights():
    variables = Nested().init(jax.random.key(0), jnp.zeros((1, 2, 2, 3)))
    Nested().apply(variables, jnp.zeros((1, 2, 2, 3)))
    message = r"\(1, 2, 2, 1\): 1 channel\(s\), the weights of stem/conv are for 3"
    with pytest.raises(ValueError, match=message):
        Nested().apply(variables, jnp.zeros((1, 2, 2, 1)))


@pytest.mark.parametrize(
    "moves",
    [
        [(11, 4, 2), (3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 1, 1), (3, 2, 0)],
        [(5, 1, 0), (2, 2, 0)] * 2,
        [(7, 2, 3), (3, 2, 1)],
        [(1, 2, 0), (3, 1, 0)],
        [(3, 1, 1)],
        [],
    ],
)
def test_the_smallest_size_is_the_first_that_leaves_a_position(moves):
    def left(size):
        for kernel, stride, padding in moves:
            size = output_size(size, kernel, stride, padding) if size else 0
        return size

    assert smallest_size(moves) == next(size for size in range(1, 200) if left(size))
