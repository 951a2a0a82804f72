"""The warp against NumPy where it is exact, against SciPy, OpenCV, scikit-image where it is not."""

import functools

import cv2
import jax
import numpy as np
import pytest
import scipy.ndimage
import skimage.transform

from train.augment.warp import warp, warp_mask, warp_nearest

HEIGHT, WIDTH = 6, 8
FILL = np.array([7, 100, 250], np.float32)
IDENTITY = np.eye(3, dtype=np.float32)
MIRROR = np.array([[-1, 0, WIDTH], [0, 1, 0], [0, 0, 1]], np.float32)
QUARTER = np.array([[0, 1, 0], [-1, 0, WIDTH], [0, 0, 1]], np.float32)
HALF = np.array([[-1, 0, WIDTH], [0, -1, HEIGHT], [0, 0, 1]], np.float32)


def shift(x, y):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float32)


def shifted(image, x, y):
    """The image moved by whole pixels over a plane of the border's colour."""
    plane = np.full((3 * HEIGHT, 3 * WIDTH, 3), FILL).astype(image.dtype)
    plane[HEIGHT : 2 * HEIGHT, WIDTH : 2 * WIDTH] = image
    return np.roll(plane, (y, x), (0, 1))[HEIGHT : 2 * HEIGHT, WIDTH : 2 * WIDTH]


def images(dtype, size=1):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (size, HEIGHT, WIDTH, 3))
    if np.issubdtype(dtype, np.integer):
        return pixels.astype(dtype)
    pixels = (pixels + rng.random(pixels.shape)).astype(dtype)
    pixels[0, 2, 3], pixels[0, 4, 4], pixels[0, 1, 1] = np.inf, np.nan, -0.0
    return pixels


@functools.partial(jax.jit, static_argnums=2)
def moves(image, matrix, shape):
    return warp(image, matrix, shape, FILL)


EXACT = {
    "identity": (IDENTITY, lambda image: image),
    "right": (shift(3, 0), lambda image: shifted(image, 3, 0)),
    "up and left": (shift(-1, -2), lambda image: shifted(image, -1, -2)),
    "almost out": (shift(WIDTH - 1, 1 - HEIGHT), lambda image: shifted(image, 7, -5)),
    "just out": (shift(WIDTH, 0), lambda image: shifted(image, WIDTH, 0)),
    "far out": (shift(-1e6, 3), lambda image: shifted(image, -WIDTH, 0)),
    "mirror": (MIRROR, lambda image: image[:, ::-1]),
    "half turn": (HALF, lambda image: np.rot90(image, 2)),
    "mirror, then right": (shift(2, 1) @ MIRROR, lambda image: shifted(image[:, ::-1], 2, 1)),
    "another scale of the matrix": (3 * shift(1, 1), lambda image: shifted(image, 1, 1)),
    "out of sight": (-IDENTITY, lambda image: shifted(image, WIDTH, 0)),
    "singular": (np.zeros((3, 3), np.float32), lambda image: shifted(image, WIDTH, 0)),
    "not a number": (IDENTITY * np.nan, lambda image: shifted(image, WIDTH, 0)),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_whole_pixels_are_copied_to_the_bit(dtype, strict_dtypes):
    image = images(dtype)
    matrices = np.stack([matrix for matrix, _ in EXACT.values()])
    batch = np.broadcast_to(image, (len(EXACT), HEIGHT, WIDTH, 3))
    results = np.asarray(moves(batch, matrices, (HEIGHT, WIDTH)))
    assert results.dtype == dtype
    for result, (name, (_, expected)) in zip(results, EXACT.items(), strict=True):
        assert result.tobytes() == expected(image[0]).astype(dtype).tobytes(), name


def test_float64_is_copied_to_the_bit(x64):
    image = images(np.float64)
    result = np.asarray(moves(image, MIRROR[None], (HEIGHT, WIDTH)))
    assert result.dtype == np.float64
    assert result.tobytes() == image[:, :, ::-1].tobytes()


def test_quarter_turn_changes_the_shape():
    image = images(np.uint8)
    result = moves(image, QUARTER[None], (WIDTH, HEIGHT))
    np.testing.assert_array_equal(result[0], np.rot90(image[0]))


def reference(image, matrix, shape):
    """Bilinear over a plane that goes on in the border's colour, by SciPy, in float64."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    points = np.linalg.inv(np.float64(matrix)) @ np.stack(
        [columns.ravel(), rows.ravel(), np.ones(columns.size)]
    )
    x, y = points[:2] / points[2] - 0.5
    x[points[2] <= 0] = -9
    planes = [
        scipy.ndimage.map_coordinates(
            np.float64(image[..., c]), [y, x], order=1, mode="grid-constant", cval=FILL[c]
        ).reshape(shape)
        for c in range(3)
    ]
    return np.stack(planes, -1)


INEXACT = {
    "half a pixel": shift(0.5, 0),
    "zoom": np.diag([1.7, 0.6, 1]),
    "affine": np.array([[0.8, 0.3, 1.2], [-0.4, 1.1, 0.7], [0, 0, 1]]),
    "mirrored affine": np.array([[-0.8, 0.3, 6.2], [0.2, 1.1, 0.7], [0, 0, 1]]),
    "perspective": np.array([[1.2, 0.1, -0.5], [0.1, 0.9, 0.6], [0.05, -0.03, 1]]),
    "with a horizon": np.array([[1, 0.2, 0], [0, 1, 0], [-0.3, 0.1, 1]]),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.uint8, 0.51), (np.float32, 0.01)])
@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (5, 11)])
def test_interpolation_equals_scipy(dtype, tolerance, shape):
    batch = np.random.default_rng(1).integers(0, 256, (len(INEXACT), HEIGHT, WIDTH, 3))
    batch = batch.astype(dtype)
    matrices = np.stack(list(INEXACT.values())).astype(np.float32)
    results = moves(batch, matrices, shape)
    for result, image, (name, matrix) in zip(results, batch, INEXACT.items(), strict=True):
        expected = reference(image, np.float32(matrix), shape)
        error = np.abs(np.float64(result) - expected).max()
        assert error < tolerance, f"{name}: {error}"


def test_integers_have_a_rounded_border():
    read = jax.jit(functools.partial(warp, shape=(2, 2), fill=np.float32(123.7)))
    result = read(np.zeros((1, 2, 2, 1), np.uint8), shift(5, 0)[None])
    np.testing.assert_array_equal(result, np.full((1, 2, 2, 1), 124, np.uint8))


BORDERS = {
    "constant": (cv2.BORDER_CONSTANT, {"mode": "constant", "constant_values": 9}),
    "reflect": (cv2.BORDER_REFLECT_101, {"mode": "reflect"}),
    "edge": (cv2.BORDER_REPLICATE, {"mode": "edge"}),
}


@functools.partial(jax.jit, static_argnums=(3, 4))
def both(image, mask, matrix, shape, border):
    return (
        warp(image, matrix, shape, np.float32(9), border),
        warp_mask(mask, matrix, shape, 9, border),
        warp_nearest(image, matrix, shape, np.float32(9), border),
    )


@pytest.mark.parametrize("border", BORDERS)
def test_whole_pixels_of_every_border_are_copied_to_the_bit(border, strict_dtypes):
    """Further than twice the image's size, mirrored and turned."""
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (5, 5, 2)).astype(np.uint8)
    plane = np.pad(image, ((20, 20), (20, 20), (0, 0)), **BORDERS[border][1])
    turn, mirror = np.array([[0, 1, 0], [-1, 0, 5], [0, 0, 1]]), np.diag([-1, 1, 1])
    mirror[0, 2] = 5
    for turned, before in (
        (np.eye(3), lambda plane: plane),
        (mirror, lambda plane: plane[:, ::-1]),
        (turn, np.rot90),
    ):
        places = [(x, y) for x in range(-14, 15, 4) for y in (-13, -2, 0, 11)]
        matrices = np.stack([shift(x, y) @ turned for x, y in places]).astype(np.float32)
        batch = np.broadcast_to(image, (len(places), *image.shape))
        pixels, classes, sharp = both(batch, batch[..., 0], matrices, (5, 6), border)
        np.testing.assert_array_equal(sharp[..., 0], classes)
        for (x, y), pixel, mask in zip(places, pixels, classes, strict=True):
            expected = before(plane)[20 - y : 25 - y, 20 - x : 26 - x]
            np.testing.assert_array_equal(pixel, expected)
            np.testing.assert_array_equal(mask, expected[..., 0])


@pytest.mark.parametrize("border", BORDERS)
def test_a_single_pixel(border):
    image = np.array([[[[3, 5]]]], np.uint8)
    around = [shift(x, y) for x, y in ((0, 0), (-1, 2), (0.25, 0))]
    batch = np.broadcast_to(image, (3, 1, 1, 2))
    pixels, classes, sharp = both(batch, batch[..., 0], np.stack(around), (1, 1), border)
    np.testing.assert_array_equal(sharp[..., 0], classes)
    outside, near = ([9, 9], [4.5, 6]) if border == "constant" else ([3, 5], [3, 5])
    expected = np.rint([[3, 5], outside, near]).astype(np.uint8)
    np.testing.assert_array_equal(pixels[:, 0, 0], expected)
    np.testing.assert_array_equal(classes[:, 0, 0], [3, outside[0], 3])


@pytest.mark.parametrize("border", BORDERS)
def test_what_comes_from_nowhere_is_filled_with_every_border(border):
    matrices = [EXACT[n][0] for n in ("out of sight", "singular", "not a number")]
    # So small that a pixel's place is at infinity, in x or in y alone.
    matrices += [np.diag(np.float32([1e-30, 1e10, 1e10])), np.diag(np.float32([1e10, 1e-30, 1e10]))]
    matrices = np.stack(matrices)
    batch = images(np.uint8, size=len(matrices))
    pixels, classes, sharp = both(batch, batch[..., 0], matrices, (2, 2), border)
    np.testing.assert_array_equal(sharp[..., 0], classes)
    assert (np.asarray(pixels) == 9).all()
    assert (np.asarray(classes) == 9).all()


CLOSE = {
    "affine": INEXACT["affine"],
    "mirrored affine": INEXACT["mirrored affine"],
    # Nothing beyond the horizon, which they read as if it were in sight.
    "perspective": np.array([[1.2, 0.1, -0.5], [0.1, 0.9, 0.6], [0.01, -0.006, 1]]),
}
CENTRE = shift(0.5, 0.5).astype(np.float64)
"""Both libraries count from the centre of the first pixel."""


ON_GRID = {
    "affine": np.array([[1.125, -0.3125, -4.40625], [0.375, 0.84375, -2.71875], [0, 0, 1]]),
    "mirrored affine": np.array(
        [[-1.21875, 0.34375, 27.1875], [-0.21875, 0.9375, 1.40625], [0, 0, 1]]
    ),
    "zoom": np.array([[0.59375, 0, -3.03125], [0, 1.65625, -5.0625], [0, 0, 1]]),
}
"""From the result's pixels to the source's, counted from centres: whole numbers of 1/32 pixel."""


def random_batch(dtype):
    rng = np.random.default_rng(3)
    batch = rng.integers(0, 256, (len(CLOSE), 21, 30, 3)).astype(dtype)
    return batch, rng.integers(0, 5, batch.shape[:3]).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("border", BORDERS)
def test_interpolation_equals_opencv(border, dtype):
    """OpenCV 4 rounds places to 1/32 pixel: where they are such, nothing is left to round."""
    batch, masks = random_batch(dtype)
    centred = np.stack([np.linalg.inv(back) for back in ON_GRID.values()])
    matrices = (CENTRE @ centred @ np.linalg.inv(CENTRE)).astype(np.float32)
    pixels, _, _ = both(batch, masks, matrices, (24, 26), border)
    how = {"borderMode": BORDERS[border][0], "borderValue": (9, 9, 9), "flags": cv2.INTER_LINEAR}
    for image, matrix, pixel in zip(batch, centred, np.float64(pixels), strict=True):
        for theirs in (
            cv2.warpPerspective(image, matrix, (26, 24), **how),
            cv2.warpAffine(image, matrix[:2], (26, 24), **how),
        ):
            # An integer of theirs is rounded; a half may go the other way, and halves are not rare
            # where weights are of 1/32.
            assert np.abs(theirs - pixel).max() <= (1 if dtype == np.uint8 else 0.01)
            assert np.mean(np.abs(theirs - pixel) > 0.01) < 0.02


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("border", BORDERS)
def test_interpolation_equals_scikit_image_and_the_nearest_opencv(border, dtype):
    batch, masks = random_batch(dtype)
    matrices = np.stack(list(CLOSE.values())).astype(np.float32)
    # Its own places are not near a tie, where nearest would depend on rounding.
    matrices[:, :2, 2] += np.float32([3.217, 2.319])
    pixels, classes, sharp = both(batch, masks, matrices, (24, 26), border)
    assert sharp.dtype == dtype
    for image, mask, matrix, pixel, found, nearest in zip(
        batch,
        masks,
        matrices,
        np.float64(pixels),
        np.asarray(classes),
        np.asarray(sharp),
        strict=True,
    ):
        centred = np.linalg.inv(CENTRE) @ np.float64(matrix) @ CENTRE
        theirs = skimage.transform.warp(
            np.float64(image),
            np.linalg.inv(centred),
            output_shape=(24, 26),
            order=1,
            mode=border,
            cval=9,
            preserve_range=True,
        )
        assert np.abs(theirs - pixel).max() < (0.51 if dtype == np.uint8 else 0.01)
        how = {"borderMode": BORDERS[border][0], "borderValue": (9, 9, 9)}
        theirs = cv2.warpPerspective(mask, centred, (26, 24), flags=cv2.INTER_NEAREST, **how)
        np.testing.assert_array_equal(found, theirs)
        theirs = cv2.warpPerspective(image, centred, (26, 24), flags=cv2.INTER_NEAREST, **how)
        np.testing.assert_array_equal(nearest, theirs)
