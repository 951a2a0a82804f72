"""Matrices against OpenCV, scikit-image and NumPy."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.transform

from train.augment.matrices import (
    centred,
    identities,
    matrices,
    quadrilaterals,
    shears,
    shifts,
    turns,
    zooms,
)
from train.augment.warp import warp

ANGLES = np.array([-400, -90, -33.5, 0, 12, 45, 89.99, 90, 180, 270, 359], np.float32)


def test_turns_equal_opencv(strict_dtypes):
    ours = np.asarray(jax.jit(lambda a: centred(turns(len(ANGLES), a), (10, 14)))(ANGLES))
    assert ours.dtype == np.float32
    for matrix, angle in zip(ours, ANGLES, strict=True):
        expected = cv2.getRotationMatrix2D((7, 5), float(angle), 1)
        np.testing.assert_allclose(matrix[:2], expected, rtol=0, atol=2e-6)
        assert matrix[2].tolist() == [0, 0, 1]


@pytest.mark.parametrize("size", [4, 5])
def test_turns_by_ninety_degrees_are_those_of_numpy_to_the_bit(size):
    image = np.random.default_rng(0).normal(size=(size, size, 1)).astype(np.float32)
    batch = np.broadcast_to(image, (6, *image.shape))
    angles = jnp.arange(-2, 4, dtype=jnp.float32) * 90
    turned = warp(batch, centred(turns(6, angles), (size, size)), (size, size), np.float32(0))
    for k, result in zip(range(-2, 4), np.asarray(turned), strict=True):
        assert result.tobytes() == np.rot90(image, k).tobytes()


def test_affine_maps_equal_scikit_image():
    x, y = np.array([[0.5, -2, 1.5], [1.25, 3, -1]], np.float32)
    size = len(x)
    of = skimage.transform.AffineTransform
    for n in range(size):
        shifted = of(translation=(x[n], y[n])).params
        np.testing.assert_allclose(shifts(size, x, y)[n], shifted)
        np.testing.assert_allclose(zooms(size, x, y)[n], of(scale=(x[n], y[n])).params)
        along_y, along_x = np.eye(3), np.eye(3)
        along_y[1, 0], along_x[0, 1] = y[n], x[n]
        np.testing.assert_allclose(shears(size, x, y)[n], along_x @ along_y, rtol=1e-6)
    # A pixel below the centre moves to the right by a pixel's share.
    lean = np.asarray(centred(shears(1, 0.5, 0.0), (10, 14)))[0]
    assert (lean @ [7, 6, 1]).tolist() == [7.5, 6, 1]
    assert (lean @ [7, 5, 1]).tolist() == [7, 5, 1]
    assert np.asarray(matrices(1, *range(9)))[0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    np.testing.assert_array_equal(identities(2), np.tile(np.eye(3), (2, 1, 1)))


def test_quadrilaterals_equal_opencv(strict_dtypes):
    height, width = 10, 14
    plain = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = np.random.default_rng(0).uniform(-3, 3, (8, 4, 2)).astype(np.float32)
    moved[0], moved[1] = 0, moved[1, 0]
    ours = np.asarray(jax.jit(lambda c: quadrilaterals(c, (height, width)))(plain + moved))
    for matrix, corners in zip(ours, plain + moved, strict=True):
        expected = cv2.getPerspectiveTransform(plain, corners)
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ours[0], np.eye(3))
