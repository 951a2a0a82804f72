"""Boxes move as their pixels do."""

import jax.numpy as jnp
import numpy as np
import pytest

from train.augment.coordinates import move_boxes, moved
from train.augment.homography import inverse, product, project
from train.data.batch import COORDINATES

WIDTH, HEIGHT = 10, 8
GONE = (0, 0, 0, 0)
IDENTITY = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
MIRROR = [[-1, 0, WIDTH], [0, 1, 0], [0, 0, 1]]


def shift(x, y):
    return [[1, 0, x], [0, 1, y], [0, 0, 1]]


@pytest.mark.parametrize(
    ("matrix", "box", "expected", "visible"),
    [
        (IDENTITY, (1, 2, 4, 6), (1, 2, 4, 6), True),
        (shift(3, -1), (1, 2, 4, 6), (4, 1, 7, 5), True),
        (MIRROR, (1, 2, 4, 6), (6, 2, 9, 6), True),
        ([[0, 1, 0], [-1, 0, 10], [0, 0, 1]], (7, 1, 9, 6), (1, 1, 6, 3), True),
        ([[2, 0, 0], [0, 0.5, 0], [0, 0, 1]], (1, 2, 4, 6), (2, 1, 8, 3), True),
        # Turned by 45 degrees: the box around a diamond.
        ([[1, -1, 4], [1, 1, 0], [0, 0, 1]], (1, 1, 3, 3), (2, 2, 6, 6), True),
        ([[1, 0, 0], [0, 1, 0], [0, 0.5, 1]], (0, 0, 4, 2), (0, 0, 4, 1), True),
        # A quarter of the area stays in sight, and less.
        (shift(-3, 0), (0, 0, 4, 4), (0, 0, 1, 4), True),
        (shift(-3.125, 0), (0, 0, 4, 4), GONE, False),
        (shift(0, 7), (0, 0, 4, 4), (0, 7, 4, 8), True),
        (shift(0, 20), (0, 0, 4, 4), GONE, False),
        # Nothing is no box, and a corner behind the horizon has no place.
        (IDENTITY, (3, 3, 3, 5), GONE, False),
        ([[1, -1, 4], [1, 1, 0], [0, 0, 1]], (1, 1, 1, 3), GONE, False),
        (MIRROR, (4, 2, 1, 6), GONE, False),
        (-np.eye(3), (1, 2, 4, 6), GONE, False),
        ([[1, 0, -3], [0, 1, -3], [-0.5, 0, 1]], (0, 0, 4, 4), GONE, False),
        # Corners on the horizon: 0 / 0, and a number / 0.
        ([[1, 0, 0], [0, 1, 0], [-0.25, 0, 1]], (0, 0, 4, 4), GONE, False),
        ([[1, 0, -4], [0, 1, 0], [-0.25, 0, 1]], (0, 0, 4, 4), GONE, False),
        (IDENTITY, (np.nan, 0, 4, 4), GONE, False),
        (IDENTITY, (0, 0, np.inf, 4), GONE, False),
    ],
)
def test_box(matrix, box, expected, visible):
    boxes, seen = move_boxes(
        jnp.array([[box]], jnp.float32), jnp.array([matrix], jnp.float32), (HEIGHT, WIDTH)
    )
    assert bool(seen[0, 0]) == visible
    assert np.isfinite(boxes).all()
    assert tuple(np.asarray(boxes)[0, 0].tolist()) == expected


def test_moved_touches_coordinates_and_matrix_alone(strict_dtypes):
    old = jnp.array([[[2, 0, 0], [0, 2, 0], [0, 0, 1]]], jnp.float32)
    batch = {
        "boxes": jnp.array([[[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 1, 4]]], jnp.float32),
        "box_valid": jnp.array([[True, False, True]]),
        "label": jnp.array([3], jnp.int32),
        "matrix": old,
    }
    after = moved(batch, jnp.array([shift(-2, 0)], jnp.float32), (HEIGHT, WIDTH))
    assert after["box_valid"].tolist() == [[True, False, False]]
    assert after["boxes"].tolist() == [[[0, 0, 2, 4], [0, 0, 0, 0], [0, 0, 0, 0]]]
    # New @ old: the shift is of pixels of the image, after the zoom.
    assert after["matrix"].tolist() == [[[2, 0, -2], [0, 2, 0], [0, 0, 1]]]
    assert after["label"] is batch["label"]
    assert set(after) == set(batch)
    assert moved({"label": batch["label"]}, old, (HEIGHT, WIDTH)).keys() == {"label"}


def test_every_coordinate_key_goes_by_its_own_validity():
    box = jnp.array([[[0, 0, 4, 4], [4, 0, 8, 4], [0, 0, 2, 4]]], jnp.float32)
    batch = {"boxes": box, "box_valid": jnp.array([[False, True, True]])}
    batch |= {"box_label": jnp.array([[1, 2, 3]]), "box_crowd": jnp.ones((1, 3), bool)}
    batch |= {"proposals": box[:, :2], "proposal_valid": jnp.array([[True, False]])}
    after = moved(batch, jnp.array([shift(-2, 0)], jnp.float32), (HEIGHT, WIDTH))
    assert after["boxes"].tolist() == [[[0] * 4, [2, 0, 6, 4], [0] * 4]]
    assert after["box_valid"].tolist() == after["box_crowd"].tolist() == [[False, True, False]]
    assert after["box_label"].tolist() == [[0, 2, 0]]
    assert after["proposals"].tolist() == [[[0, 0, 2, 4], [0] * 4]]
    assert after["proposal_valid"].tolist() == [[True, False]]


@pytest.mark.parametrize("key", COORDINATES)
def test_coordinates_without_validity_are_refused(key):
    with pytest.raises(ValueError, match=f"{key!r} in the batch without '.*_valid'"):
        moved({key: jnp.zeros((1, 2, 4))}, jnp.eye(3)[None], (HEIGHT, WIDTH))


def test_how_much_must_be_visible_is_said():
    """Of boxes of which 1/2, 2/3, 1/5 and nothing is left."""
    boxes = jnp.array([[[0, 0, 4, 2], [0, 0, 6, 2], [0, 0, 2.5, 2], [0, 0, 2, 2]]], jnp.float32)
    matrix = jnp.array([shift(-2, 0)], jnp.float32)
    for visible, kept in {
        0: [1, 1, 1, 0],
        0.25: [1, 1, 0, 0],
        0.5: [1, 1, 0, 0],
        0.6: [0, 1, 0, 0],
        1: [0, 0, 0, 0],
    }.items():
        _, seen = move_boxes(boxes, matrix, (HEIGHT, WIDTH), visible)
        assert seen[0].tolist() == kept


def test_product_and_inverse_equal_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 16, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(product(jnp.array(a), jnp.array(b)), a @ b, rtol=0, atol=1e-6)
    scale = np.abs(np.linalg.det(np.float64(a)))[:, None, None]
    expected = np.linalg.inv(np.float64(a)) * scale
    np.testing.assert_allclose(inverse(jnp.array(a)), expected, rtol=0, atol=1e-5)


def test_inverse_leads_back():
    matrix = jnp.array([[[0.9, 0.2, 1], [-0.3, 1.1, 2], [0.02, 0.01, 1]]], jnp.float32)
    x, y = jnp.array([[0.0, 3.0, 7.0]]), jnp.array([[1.0, 2.0, 5.0]])
    u, v, in_sight = project(matrix, x, y)
    assert in_sight.all()
    back_x, back_y, in_sight = project(inverse(matrix), u, v)
    assert in_sight.all()
    np.testing.assert_allclose(back_x, x, rtol=0, atol=1e-5)
    np.testing.assert_allclose(back_y, y, rtol=0, atol=1e-5)
