"""From scores of every class of every box to the detections of an image."""

import jax
import jax.numpy as jnp
from jax import lax

from models.detection.boxes import clip, large_enough
from models.detection.detections import Detections, best

LEAST = 0.01
"""Pixels: a box with a shorter side is none, as torchvision's."""


def select(
    boxes: jax.Array,
    scores: jax.Array,
    extent: jax.Array,
    *,
    score_threshold: float,
    nms_threshold: float,
    candidates: int,
    limit: int,
) -> Detections:
    """The best pairs of a box and a class, after non-maximum suppression within each class.

    Args:
        boxes: (B, N, 4) x0 y0 x1 y1.
        scores: (B, N, C) of each class.
        extent: (B, 4): boxes are clipped to it, and what is then thinner than `LEAST` is dropped.
        score_threshold: scores are above it.
        nms_threshold: largest IoU of two detections of a class.
        candidates: most pairs of an image that suppression sees: those of the highest scores.
        limit: most detections of an image.

    Raises:
        ValueError: `candidates` is below 1; or as `best`.
    """
    if candidates < 1:
        raise ValueError(f"candidates={candidates} must be at least 1")
    boxes = clip(boxes, extent)
    scores = jnp.where(large_enough(boxes, LEAST)[..., None], scores, -jnp.inf)
    boxes, top, labels = pairs(boxes, scores, candidates)
    valid = top > score_threshold
    return best(boxes, top, labels, valid, threshold=nms_threshold, limit=limit)


def pairs(boxes: jax.Array, scores: jax.Array, most: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best pairs of a box and a class of each image, by falling score.

    Args:
        boxes: (B, N, 4).
        scores: (B, N, C) of each class.
        most: k, how many; all where there are no more.

    Returns:
        Boxes (B, k, 4), scores (B, k) and classes (B, k) int32.
    """
    batch, _, classes = scores.shape
    flat = scores.reshape(batch, -1)
    top, at = lax.top_k(flat, min(most, flat.shape[1]))
    return jnp.take_along_axis(boxes, (at // classes)[..., None], axis=1), top, at % classes
