"""Boxes: torchvision's numbers, values by hand, and what has no extent."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.detection.boxes import (
    area,
    cells,
    clip,
    decode,
    encode,
    giou,
    iou,
    large_enough,
    paired_giou,
    paired_iou,
    to_centre,
    to_corners,
    to_yolo,
)

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "torchvision_boxes.npz")
FIRST, SECOND = GOLDEN["first"], GOLDEN["second"]
WEIGHTS = {"1": (1.0,) * 4, "10": (10.0, 10.0, 5.0, 5.0)}


def test_overlaps_equal_torchvision():
    np.testing.assert_array_equal(jax.jit(iou)(FIRST, SECOND), GOLDEN["iou"])
    np.testing.assert_allclose(jax.jit(giou)(FIRST, SECOND), GOLDEN["giou"], atol=3e-7)


def test_compiled_overlaps_round_as_they_stand():
    corners = np.random.default_rng(0).random((200, 2, 2), np.float32)
    boxes = np.concatenate([corners[:, 0], corners[:, 0] + corners[:, 1]], axis=1)
    a, b = boxes[:, None], boxes[None]
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inner = np.prod(np.maximum(size, np.float32(0)), axis=-1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    np.testing.assert_array_equal(
        jax.jit(iou)(boxes, boxes), inner / (areas[:, None] + areas[None] - inner)
    )


def test_overlaps_by_hand():
    a = jnp.asarray([[0.0, 0, 2, 2], [-3, -3, -1, -1]])
    b = jnp.asarray([[1.0, 1, 3, 3]])
    np.testing.assert_allclose(iou(a, b), [[1 / 7], [0]], rtol=1e-6)
    np.testing.assert_allclose(giou(a, b), [[1 / 7 - 2 / 9], [-28 / 36]], rtol=1e-6)
    np.testing.assert_array_equal(area(a), [4, 4])
    np.testing.assert_allclose(paired_iou(a[0], b[0]), 1 / 7, rtol=1e-6)


EMPTY = ([0, 0, 0, 0], [5, 5, 5, 5], [1, 1, 1, 4], [3, 3, 1, 1], [1, 3, 4, 2], [0, 0, 2, 2])
"""A point, a point, a line, upside down in both and in one, a proper box."""


def test_what_is_empty_overlaps_nothing():
    boxes = jnp.asarray(EMPTY, jnp.float32)
    shares = iou(boxes, boxes)
    np.testing.assert_array_equal(shares, np.diag([0, 0, 0, 0, 0, 1]))
    assert np.isfinite(giou(boxes, boxes)).all()
    np.testing.assert_array_equal(jnp.diag(giou(boxes, boxes))[:3], 0)


@pytest.mark.parametrize("pairwise", [iou, giou])
def test_gradients_are_finite(pairwise):
    boxes = jnp.asarray(EMPTY, jnp.float32)
    slopes = jax.grad(lambda a, b: jnp.sum(pairwise(a, b)), argnums=(0, 1))(boxes, boxes)
    assert np.isfinite(slopes).all()


def test_giou_pulls_apart_boxes_together():
    a, b = jnp.asarray([0.0, 0, 2, 2]), jnp.asarray([5.0, 0, 7, 2])
    slope = jax.grad(paired_giou)(a, b)
    # GIoU is union / whole - 1 here: 8 / 14 - 1, with a whole of 2 (7 - x0).
    np.testing.assert_allclose(slope[::2], [-12 / 196, 2 / 14], rtol=1e-6)


def test_leading_axes():
    a, b = jnp.tile(FIRST, (2, 3, 1, 1)), jnp.tile(SECOND, (2, 3, 1, 1))
    assert iou(a, b).shape == giou(a, b).shape == (2, 3, 9, 7)
    np.testing.assert_array_equal(iou(a, b)[1, 2], GOLDEN["iou"])


@pytest.mark.parametrize("name", WEIGHTS)
def test_codes_equal_torchvision(name):
    codes = encode(SECOND, FIRST[:7], WEIGHTS[name])
    np.testing.assert_allclose(codes, GOLDEN[f"encoded/{name}"], rtol=2e-5, atol=2e-5)
    boxes = decode(GOLDEN[f"deltas/{name}"], SECOND, WEIGHTS[name])
    np.testing.assert_allclose(boxes, GOLDEN[f"decoded/{name}"], rtol=2e-6, atol=2e-3)
    np.testing.assert_allclose(decode(codes, FIRST[:7], WEIGHTS[name]), SECOND, atol=2e-4)


def test_codes_by_hand():
    anchor, box = jnp.asarray([0.0, 0, 10, 20]), jnp.asarray([5.0, 5, 25, 15])
    np.testing.assert_allclose(encode(box, anchor), [1, 0, np.log(2), np.log(0.5)], rtol=1e-6)
    far = decode(jnp.asarray([0.0, 0, 99, -99]), anchor)
    np.testing.assert_allclose(far, [5 - 312.5, 10, 5 + 312.5, 10], rtol=1e-6)
    np.testing.assert_allclose(decode(jnp.asarray([0.0, 0, 9, 0]), anchor, limit=0.0), anchor)


def test_codes_of_padding_are_finite():
    boxes = jnp.asarray(EMPTY, jnp.float32)
    codes, pull = jax.vjp(encode, boxes, boxes[::-1])
    assert np.isfinite(codes).all()
    assert np.isfinite(pull(jnp.ones_like(codes))).all()
    np.testing.assert_array_equal(encode(boxes[0], boxes[5]), 0)


def test_forms():
    boxes = jnp.asarray([[2.0, 4, 10, 8]])
    np.testing.assert_array_equal(to_centre(boxes), [[6, 6, 8, 4]])
    np.testing.assert_array_equal(to_corners(to_centre(boxes)), boxes)
    np.testing.assert_array_equal(to_yolo(boxes, (16, 32)), [[6 / 32, 6 / 16, 8 / 32, 4 / 16]])


def test_cells_and_centres_on_the_last_edges():
    boxes = jnp.asarray([[0.0, 0, 20, 40], [60, 30, 68, 34], [0, 0, 0, 0], [64, 8, 64, 8]])
    where = cells(boxes, (32, 64), (2, 4))
    np.testing.assert_array_equal(where.row, [1, 1, 0, 0])
    np.testing.assert_array_equal(where.column, [0, 3, 0, 3])
    np.testing.assert_array_equal(where.place, [[0.625, 0.25], [1, 1], [0, 0], [1, 0.5]])
    assert where.row.dtype == where.column.dtype == jnp.int32


def test_clip_and_small_boxes():
    boxes = jnp.asarray([[[-5.0, 2, 50, 9], [3, 3, 4, 8]], [[0, 0, 9, 9], [12, 12, 20, 20]]])
    cut = clip(boxes, jnp.asarray([[0, 0, 40, 8], [2, 2, 10, 10]]))
    expected = [[[0, 2, 40, 8], [3, 3, 4, 8]], [[2, 2, 9, 9], [10, 10, 10, 10]]]
    np.testing.assert_array_equal(cut, expected)
    np.testing.assert_array_equal(clip(boxes, jnp.asarray([0, 0, 40, 8]))[0], expected[0])
    np.testing.assert_array_equal(large_enough(cut, 1.0), [[True, True], [True, False]])
    np.testing.assert_array_equal(large_enough(cut, 1.5), [[True, False], [True, False]])


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64"), ("int32", "float32")],
)
def test_types(dtype, expected, x64):
    boxes = jnp.ones((2, 4), dtype)
    extent = jnp.asarray([0, 0, 4, 4], jnp.float32)
    made = [area(boxes), iou(boxes, boxes), giou(boxes, boxes), clip(boxes, extent)]
    made += [encode(boxes, boxes), decode(boxes, boxes), to_yolo(boxes, (4, 4))]
    made += [cells(boxes, (4, 4), (2, 2)).place]
    assert {x.dtype for x in made} == {jnp.dtype(expected)}
