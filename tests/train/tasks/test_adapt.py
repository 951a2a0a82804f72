"""Fit: images of another size or other channels, against what they must be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from train.tasks.adapt import both, coloured, padded, resized

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 28, 31, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [(32, 32), (14, 50), (9, 7)])
def test_resized_is_pillows_bilinear(size):
    got = jax.jit(resized(*size))(jnp.asarray(IMAGES))
    assert got.shape == (2, *size, 3)
    for image, found in zip(IMAGES, got, strict=True):
        for channel in range(3):
            plane = Image.fromarray(image[..., channel])  # of floats
            expected = plane.resize(size[::-1], Image.Resampling.BILINEAR)
            np.testing.assert_allclose(found[..., channel], np.asarray(expected), atol=2e-3)


def test_images_of_the_size_are_unchanged_to_the_bit():
    np.testing.assert_array_equal(resized(28, 31)(jnp.asarray(IMAGES)), IMAGES)


def test_padded_centres():
    got = padded(32, 32)(jnp.asarray(IMAGES))
    expected = np.pad(IMAGES, [(0, 0), (2, 2), (0, 1), (0, 0)])
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("size", [(27, 31), (28, 30)])
def test_padded_refuses_to_crop(size):
    with pytest.raises(ValueError, match=rf"\(2, 28, 31, 3\) are larger than {size[0]}x{size[1]}"):
        padded(*size)(jnp.asarray(IMAGES))


def test_grey_becomes_colour_and_colour_stays():
    grey = jnp.asarray(IMAGES[..., :1])
    np.testing.assert_array_equal(coloured(grey), np.repeat(IMAGES[..., :1], 3, -1))
    np.testing.assert_array_equal(coloured(jnp.asarray(IMAGES)), IMAGES)
    with pytest.raises(ValueError, match="neither grey nor of three colours"):
        coloured(jnp.asarray(IMAGES[..., :2]))


def test_both_in_order():
    got = both(padded(32, 32), resized(16, 16))(jnp.asarray(IMAGES))
    expected = resized(16, 16)(padded(32, 32)(jnp.asarray(IMAGES)))
    np.testing.assert_array_equal(got, expected)
