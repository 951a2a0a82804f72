"""Coordinates follow pixels: boxes and the matrix, moved by what moved the image."""

import jax
import jax.numpy as jnp

from train.augment.homography import product, project
from train.augment.kinds import Shape
from train.data.batch import COORDINATES, KEYS, Batch, rows_of

VISIBLE = 0.25
"""The least share of a box's area that must stay inside the image, unless one says otherwise."""


def moved(batch: Batch, matrix: jax.Array, shape: Shape, visible: float = VISIBLE) -> Batch:
    """The batch with every coordinate key, and `matrix` where present, moved.

    A row that is no box, or is one no longer, is 0 and False in every key of its kind, `box_label`
    included, like a row that only fills the capacity.

    Args:
        batch: see `train.data.batch`.
        matrix: (B, 3, 3) float32: the image's (x, y, 1) -> the new image's.
        shape: height and width of the new image.
        visible: see `move_boxes`.

    Raises:
        ValueError: boxes or proposals without the key that says which rows are some.
    """
    batch = dict(batch)
    for key in COORDINATES:
        if key not in batch:
            continue
        valid = KEYS[key].valid
        if valid not in batch:
            raise ValueError(f"{key!r} in the batch without {valid!r}")
        boxes, kept = move_boxes(batch[key], matrix, shape, visible)
        kept = kept & batch[valid]
        batch[key] = boxes
        for name in rows_of(key, batch):
            value = batch[name]
            rows = kept.reshape(kept.shape + (1,) * (value.ndim - kept.ndim))
            batch[name] = jnp.where(rows, value, jnp.zeros((), value.dtype))
    if "matrix" in batch:
        batch["matrix"] = product(matrix, batch["matrix"])
    return batch


def move_boxes(
    boxes: jax.Array, matrix: jax.Array, shape: Shape, visible: float = VISIBLE
) -> tuple[jax.Array, jax.Array]:
    """The box around each box's moved corners, clipped to the image; whether it is still a box.

    It is while its own area was not nothing, a share `visible` of its moved area is inside the
    image, that is not nothing either, and all corners are in sight of the map. A row that is none
    becomes 0 0 0 0: a corner that is not in sight has no finite place.

    Args:
        boxes: (B, N, 4) float32, x0 y0 x1 y1.
        matrix: (B, 3, 3) float32.
        shape: height and width of the new image.
        visible: in 0..1.

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
    kept = (right > left) & (bottom > top) & in_sight.all(-1)
    kept &= (inside > 0) & (inside >= visible * area)
    return jnp.where(kept[..., None], jnp.stack([x0, y0, x1, y1], axis=-1), 0), kept
