"""Coordinates follow pixels: boxes and the matrix, moved by what moved the image."""

import jax
import jax.numpy as jnp

from train.augment.homography import product, project
from train.augment.kinds import Shape
from train.data.batch import COORDINATES, Batch

VALID = {"boxes": "box_valid", "proposals": "proposal_valid"}
"""Which key says whether a row of a coordinate key is a box."""

UNMOVABLE = ("mask",)
"""Keys that belong to the pixels and that nothing here moves: refused, not left behind."""

VISIBLE = 0.25
"""The least share of a box's area that must stay inside the image."""


def moved(batch: Batch, matrix: jax.Array, shape: Shape) -> Batch:
    """The batch with every coordinate key, and `matrix` where present, moved.

    Args:
        batch: see `train.data.batch`.
        matrix: (B, 3, 3) float32: the image's (x, y, 1) -> the new image's.
        shape: height and width of the new image.
    """
    batch = dict(batch)
    for key in COORDINATES:
        if key in batch:
            boxes, visible = move_boxes(batch[key], matrix, shape)
            batch[key], batch[VALID[key]] = boxes, batch[VALID[key]] & visible
    if "matrix" in batch:
        batch["matrix"] = product(matrix, batch["matrix"])
    return batch


def move_boxes(boxes: jax.Array, matrix: jax.Array, shape: Shape) -> tuple[jax.Array, jax.Array]:
    """The box around each box's moved corners, clipped to the image; whether it is still a box.

    It is while a quarter of its moved area (`VISIBLE`) is inside the image, that is not nothing,
    and all corners are in sight of the map. A row that is none becomes 0 0 0 0: a corner that is
    not in sight has no finite place.

    Args:
        boxes: (B, N, 4) float32, x0 y0 x1 y1.
        matrix: (B, 3, 3) float32.
        shape: height and width of the new image.

    Returns:
        (B, N, 4) float32, (B, N) bool.
    """
    left, top, right, bottom = jnp.unstack(boxes, axis=-1)
    corners_x = jnp.stack([left, right, left, right], axis=-1)
    corners_y = jnp.stack([top, top, bottom, bottom], axis=-1)
    x, y, in_sight = project(matrix, corners_x, corners_y)
    x0, x1, y0, y1 = x.min(-1), x.max(-1), y.min(-1), y.max(-1)
    height, width = shape
    area = (x1 - x0) * (y1 - y0)
    x0, x1, y0, y1 = x0.clip(0, width), x1.clip(0, width), y0.clip(0, height), y1.clip(0, height)
    inside = (x1 - x0) * (y1 - y0)
    visible = (inside > 0) & (inside >= VISIBLE * area) & in_sight.all(-1)
    return jnp.where(visible[..., None], jnp.stack([x0, y0, x1, y1], axis=-1), 0), visible
