"""Boxes: areas, overlaps, clipping, and the forms that networks predict them in.

A box is x0 y0 x1 y1 in pixels, continuous: the pixel of row r and column c covers [c, c+1) x
[r, r+1), so a width is x1 - x0. Types narrower than float32 are widened to it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

CLIP = math.log(1000 / 16)
"""Largest logarithm of a scale that `decode` believes, as Detectron's and torchvision's."""


def area(boxes: jax.Array) -> jax.Array:
    """(…, 4) -> (…): width times height, signed as they are."""
    return product(*extents(boxes))


def iou(first: jax.Array, second: jax.Array) -> jax.Array:
    """Intersection over union of each with each: (…, N, 4), (…, M, 4) -> (…, N, M).

    0 where either is empty. In float32 the very numbers of torchvision's `box_iou`, also compiled,
    so that thresholds and ties fall alike.
    """
    return paired_iou(*pairs(first, second))


def giou(first: jax.Array, second: jax.Array) -> jax.Array:
    """Generalised IoU of each with each: (…, N, 4), (…, M, 4) -> (…, N, M); see `paired_giou`."""
    return paired_giou(*pairs(first, second))


def paired_iou(first: jax.Array, second: jax.Array) -> jax.Array:
    """Intersection over union of two boxes: (…, 4), (…, 4) -> (…), as `iou`."""
    return overlap(first, second)[0]


def paired_giou(first: jax.Array, second: jax.Array) -> jax.Array:
    """IoU less the empty share of the smallest box around both: (…, 4), (…, 4) -> (…) in [-1, 1].

    Rezatofighi et al. 2019 (arXiv:1902.09630), algorithm 1. 0 for two boxes that are empty and lie
    in one point or on one line; finite gradients everywhere.
    """
    share, union = overlap(first, second)
    first, second = wide(first), wide(second)
    around = jnp.concatenate(
        [
            jnp.minimum(first[..., :2], second[..., :2]),
            jnp.maximum(first[..., 2:], second[..., 2:]),
        ],
        axis=-1,
    )
    width, height = extents(around)
    whole = product(jnp.maximum(width, 0), jnp.maximum(height, 0))
    there = whole > 0
    return share - jnp.where(there, (whole - union) / jnp.where(there, whole, 1), 0)


def clip(boxes: jax.Array, extent: jax.Array) -> jax.Array:
    """Boxes, cut to a rectangle.

    Args:
        boxes: (…, N, 4).
        extent: (…, 4), x0 y0 x1 y1 of the rectangle, one for the N boxes; fewer leading axes are
            broadcast.
    """
    boxes = wide(boxes)
    extent = jnp.asarray(extent, boxes.dtype)
    extent = jnp.broadcast_to(extent[..., None, :], boxes.shape)
    low = jnp.concatenate([extent[..., :2]] * 2, axis=-1)
    high = jnp.concatenate([extent[..., 2:]] * 2, axis=-1)
    return jnp.minimum(jnp.maximum(boxes, low), high)


def large_enough(boxes: jax.Array, least: float) -> jax.Array:
    """(…, 4) -> (…) bool: neither side is shorter than `least` pixels."""
    width, height = extents(boxes)
    return (width >= least) & (height >= least)


def encode(
    boxes: jax.Array, anchors: jax.Array, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> jax.Array:
    """What must be added to anchors to make them boxes (Girshick et al. 2014, appendix C).

    dx = (x - xa) / wa, dy, dw = log(w / wa), dh, of centres and sizes, times `weights`.

    Args:
        boxes: (…, 4).
        anchors: (…, 4), of the same number of axes.
        weights: of dx, dy, dw, dh.

    Returns:
        (…, 4). Along a side on which a box or its anchor has no extent, 0: padding makes no NaN.
    """
    x, y, width, height = jnp.moveaxis(to_centre(boxes), -1, 0)
    xa, ya, wa, ha = jnp.moveaxis(to_centre(anchors), -1, 0)
    wx, wy, ww, wh = weights
    dx, dw = side(x, width, xa, wa, wx, ww)
    dy, dh = side(y, height, ya, ha, wy, wh)
    return jnp.stack([dx, dy, dw, dh], axis=-1)


def decode(
    deltas: jax.Array,
    anchors: jax.Array,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    limit: float = CLIP,
) -> jax.Array:
    """Boxes from what `encode` makes of them: (…, 4), (…, 4) -> (…, 4).

    Args:
        deltas: dx dy dw dh.
        anchors: of the same number of axes.
        weights: as in `encode`.
        limit: dw and dh are at most that.
    """
    dx, dy, dw, dh = jnp.moveaxis(wide(deltas), -1, 0)
    xa, ya, wa, ha = jnp.moveaxis(to_centre(anchors), -1, 0)
    wx, wy, ww, wh = weights
    x, y = dx / wx * wa + xa, dy / wy * ha + ya
    width = jnp.exp(jnp.minimum(dw / ww, limit)) * wa
    height = jnp.exp(jnp.minimum(dh / wh, limit)) * ha
    return to_corners(jnp.stack([x, y, width, height], axis=-1))


def to_centre(boxes: jax.Array) -> jax.Array:
    """x0 y0 x1 y1 -> centre x and y, width, height: (…, 4) -> (…, 4)."""
    boxes = wide(boxes)
    size = boxes[..., 2:] - boxes[..., :2]
    return jnp.concatenate([boxes[..., :2] + 0.5 * size, size], axis=-1)


def to_corners(centred: jax.Array) -> jax.Array:
    """Centre x and y, width, height -> x0 y0 x1 y1: (…, 4) -> (…, 4)."""
    centred = wide(centred)
    centre, half = centred[..., :2], 0.5 * centred[..., 2:]
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def to_yolo(boxes: jax.Array, size: tuple[int, int]) -> jax.Array:
    """x0 y0 x1 y1 -> centre x and y, width, height as shares of the image, as YOLO's label files.

    Args:
        boxes: (…, 4).
        size: height and width of the image in pixels.
    """
    height, width = size
    centred = to_centre(boxes)
    return centred / jnp.asarray([width, height] * 2, centred.dtype).reshape(ones(centred))


class Cells(NamedTuple):
    """Where in a grid the centres of boxes lie."""

    row: jax.Array
    """(…) int32, from 0."""
    column: jax.Array
    """(…) int32, from 0."""
    place: jax.Array
    """(…, 2): x and y of the centre in its cell, in cells: 0 is the left or upper edge."""


def cells(boxes: jax.Array, size: tuple[int, int], grid: tuple[int, int]) -> Cells:
    """The cell of a grid over the image that each box's centre is in (Redmon et al. 2016).

    A centre on the right or lower edge, or beyond any, is of the cell nearest to it.

    Args:
        boxes: (…, 4).
        size: height and width of the image in pixels.
        grid: rows and columns.
    """
    rows, columns = grid
    shares = to_yolo(boxes, size)
    x, y = shares[..., 0] * columns, shares[..., 1] * rows
    column = jnp.clip(jnp.floor(x), 0, columns - 1)
    row = jnp.clip(jnp.floor(y), 0, rows - 1)
    place = jnp.stack([x - column, y - row], axis=-1)
    return Cells(row.astype(jnp.int32), column.astype(jnp.int32), place)


def overlap(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """IoU and union of two boxes: (…, 4), (…, 4) -> (…), (…)."""
    first, second = wide(first), wide(second)
    width, height = extents(
        jnp.concatenate(
            [
                jnp.maximum(first[..., :2], second[..., :2]),
                jnp.minimum(first[..., 2:], second[..., 2:]),
            ],
            axis=-1,
        )
    )
    inner = product(jnp.maximum(width, 0), jnp.maximum(height, 0))
    union = area(first) + area(second) - inner
    there = inner > 0
    return jnp.where(there, inner / jnp.where(there, union, 1), 0), union


def pairs(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(…, N, 4), (…, M, 4) -> (…, N, 1, 4), (…, 1, M, 4)."""
    return jnp.asarray(first)[..., :, None, :], jnp.asarray(second)[..., None, :, :]


def side(
    centre: jax.Array, size: jax.Array, other: jax.Array, scale: jax.Array, move: float, grow: float
) -> tuple[jax.Array, jax.Array]:
    """Moved by and scaled by along one side, all (…); 0 where either has no extent."""
    there = (size > 0) & (scale > 0)
    unit = jnp.where(there, scale, 1)
    moved = jnp.where(there, move * (centre - other) / unit, 0)
    return moved, jnp.where(there, grow * jnp.log(jnp.where(there, size, 1) / unit), 0)


def product(width: jax.Array, height: jax.Array) -> jax.Array:
    """(…), (…) -> (…), rounded before anything is added to it.

    The maximum changes no finite number. Without it a compiler contracts this and a sum into one
    operation, which rounds once where torchvision rounds twice.
    """
    area = width * height
    return jnp.maximum(area, jnp.finfo(area.dtype).min)


def extents(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Width and height: (…, 4) -> (…), (…)."""
    boxes = wide(boxes)
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def wide(values: jax.Array) -> jax.Array:
    """At least float32."""
    values = jnp.asarray(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def ones(boxes: jax.Array) -> tuple[int, ...]:
    """The shape of four numbers that broadcast over the boxes."""
    return (1,) * (boxes.ndim - 1) + (4,)
