"""What goes into a detector and what comes out of it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.detection.nms import class_nms


class Images(NamedTuple):
    """A batch of images as a detector takes them."""

    image: jax.Array
    """(B, H, W, C) floats, normalised."""
    extent: jax.Array
    """(B, 4) float32: x0 y0 x1 y1 of what of it is picture and not padding, in pixels."""


def whole(image: jax.Array) -> jax.Array:
    """The extent of images (B, H, W, C) that are all picture: (B, 4) float32."""
    count, height, width = image.shape[:3]
    return jnp.broadcast_to(jnp.asarray([[0, 0, width, height]], jnp.float32), (count, 4))


class Detections(NamedTuple):
    """The K best detections of each image; rows that are not valid are 0."""

    boxes: jax.Array
    """(B, K, 4) float32: x0 y0 x1 y1 in pixels of the image that the network saw."""
    scores: jax.Array
    """(B, K) float32, descending."""
    labels: jax.Array
    """(B, K) int32, classes from 0, no background among them."""
    valid: jax.Array
    """(B, K) bool."""


def best(
    boxes: jax.Array,
    scores: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    threshold: float,
    limit: int,
) -> Detections:
    """What non-maximum suppression within each class leaves of an image's boxes.

    Args:
        boxes: (B, N, 4).
        scores, labels, valid: (B, N), as in `class_nms`.
        threshold: largest IoU of two detections of a class.
        limit: K, the most detections of an image.

    Raises:
        ValueError: as `class_nms`.
    """

    def one(boxes, scores, labels, valid):
        kept = class_nms(boxes, scores, labels, valid, threshold=threshold, limit=limit)

        def taken(values, dtype):
            if not len(values):
                return jnp.zeros((limit, *values.shape[1:]), dtype)
            rows = values[kept.indices].astype(dtype)
            return jnp.where(kept.valid.reshape((-1,) + (1,) * (rows.ndim - 1)), rows, 0)

        return Detections(
            taken(boxes, jnp.float32),
            taken(scores, jnp.float32),
            taken(labels, jnp.int32),
            kept.valid,
        )

    return jax.vmap(one)(boxes, scores, labels, valid)
