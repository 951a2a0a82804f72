"""Crowds and difficult objects: what lies there is not learnt as background."""

import jax
import jax.numpy as jnp

from models.detection.boxes import area
from train.tasks.detection.truth import Truth

SHARE = 0.5


def in_ignored(anchors: jax.Array, truth: Truth) -> jax.Array:
    """Whether at least half of an anchor lies in one ignored box: (A, 4) -> (B, A) bool.

    Also of each image's own anchors, or predicted boxes: (B, A, 4) -> (B, A).

    A share of the anchor, not IoU: a crowd is large and anchors in it are small. An anchor that an
    ignored object would be matched with, by an IoU of 0.5, is among them.
    """
    boxes = truth.boxes[:, :, None]
    anchors = anchors.reshape(-1, 1, *anchors.shape[-2:])
    low = jnp.maximum(boxes[..., :2], anchors[..., :2])
    high = jnp.minimum(boxes[..., 2:], anchors[..., 2:])
    inner = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    return jnp.any(truth.ignored[..., None] & (inner >= SHARE * area(anchors)), axis=1)
