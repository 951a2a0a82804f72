"""Where pictures lie in what a network saw, and what it found there, in pixels of the source."""

import jax
import jax.numpy as jnp
import numpy as np

from models.detection.detections import whole
from train.augment.homography import project


def extent(batch: dict) -> jax.Array:
    """What of each image is picture and not padding: (B, 4) float32, x0 y0 x1 y1 in its pixels.

    The rectangle around where `matrix` takes the source, whose height and width are `size`, as far
    as it lies in the image; all of the image where the batch has no `matrix`, or a corner of the
    source is out of sight.
    """
    height, width = batch["image"].shape[1:3]
    limit = jnp.asarray([[width, height, width, height]], jnp.float32)
    if "matrix" not in batch or "size" not in batch:
        return whole(batch["image"])
    size = batch["size"].astype(jnp.float32)
    none = jnp.zeros_like(size[:, 0])
    x = jnp.stack([none, size[:, 1], none, size[:, 1]], -1)
    y = jnp.stack([none, none, size[:, 0], size[:, 0]], -1)
    x, y, in_sight = project(batch["matrix"], x, y)
    around = jnp.stack([x.min(-1), y.min(-1), x.max(-1), y.max(-1)], -1)
    return jnp.where(in_sight.all(-1)[:, None], jnp.clip(around, 0, limit), whole(batch["image"]))


def to_source(boxes: np.ndarray, matrix: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Boxes of an image in the pixels of its source, clipped to it.

    Args:
        boxes: (n, 4), x0 y0 x1 y1.
        matrix: (3, 3): source (x, y, 1) -> image (x, y, 1); not singular.
        size: height and width of the source.

    Returns:
        (n, 4) float32: the box around the four corners where they came from.
    """
    left, top, right, bottom = np.moveaxis(np.asarray(boxes, np.float64).reshape(-1, 4), -1, 0)
    corners = np.stack(
        [[left, right, left, right], [top, top, bottom, bottom], np.ones((4, len(left)))]
    )
    x, y, w = np.tensordot(np.linalg.inv(np.asarray(matrix, np.float64)), corners, 1)
    x, y = x / w, y / w
    height, width = (float(n) for n in size)
    around = np.stack([x.min(0), y.min(0), x.max(0), y.max(0)], -1)
    return np.clip(around, 0, [width, height, width, height]).astype(np.float32)
