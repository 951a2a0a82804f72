"""SimOTA (YOLOX: Ge et al. 2021, arXiv:2107.08430, section 2.1): which predictions learn a truth.

Each truth takes the predictions that already fit it best, the more of them the better they fit. It
is a simplified optimal transport (OTA: Ge et al. 2021, arXiv:2103.14259).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from models.detection.boxes import iou

RADIUS = 2.5
"""Strides from a truth's centre to the sides of its centre region (the authors' code)."""
MOST = 10
"""Most predictions of a truth; as many of its IoUs are added for how many it takes."""
IOU_WEIGHT = 3.0
"""Of the cost of the IoU beside that of the class: the paper's lambda."""
OUTSIDE = 1e5
"""Cost of a place that is not inside both the truth and its centre region."""


class Assigned(NamedTuple):
    """What each prediction learns.

    Attributes:
        positive: (B, A) bool: whether it learns a truth.
        truth: (B, A) int32: which; 0 where none.
        iou: (B, A): of its box with that truth; 0 where none.
    """

    positive: jax.Array
    truth: jax.Array
    iou: jax.Array


def simota(
    boxes: jax.Array,
    objectness: jax.Array,
    logits: jax.Array,
    centres: jax.Array,
    strides: jax.Array,
    truth: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
) -> Assigned:
    """Assign truths to predictions.

    A candidate lies inside some truth, or inside the centre region of one. The cost of a candidate
    for a truth is the cross-entropy of its class scores, roots of class times objectness, against
    the truth's class, plus 3 times -log IoU, plus 1e5 where it is not inside both that truth and
    its centre region. A truth takes the k candidates of least cost, where k is the sum of its ten
    largest IoUs with candidates, rounded down, at least 1. Of several truths that take one
    prediction, that of the least cost keeps it. Equal costs go to the first.

    Args:
        boxes: (B, A, 4) predicted, x0 y0 x1 y1 in pixels.
        objectness: (B, A) logits.
        logits: (B, A, C) of the classes.
        centres: (A, 2) x y of the predictions' cells, in pixels.
        strides: (A,) pixels.
        truth: (B, N, 4) boxes.
        labels: (B, N) int32 in 0..C-1.
        valid: (B, N) bool: which rows are a truth.

    Returns:
        `Assigned`; no gradient flows through it.
    """
    boxes, objectness, logits = lax.stop_gradient((boxes, objectness, logits))
    if not truth.shape[1]:
        none = jnp.zeros(boxes.shape[:2], bool)
        return Assigned(none, none.astype(jnp.int32), jnp.zeros(boxes.shape[:2], boxes.dtype))
    in_box, in_centre = _places(centres, strides, truth, valid)
    candidate = jnp.any(in_box | in_centre, axis=1)  # (B, A)
    overlap = jnp.where(candidate[:, None], iou(truth, boxes), 0)  # (B, N, A)
    cost = class_cost(objectness, logits, labels) - IOU_WEIGHT * jnp.log(overlap + 1e-8)
    cost = cost + jnp.where(in_box & in_centre, 0, OUTSIDE).astype(cost.dtype)
    cost = jnp.where(candidate[:, None] & valid[..., None], cost, jnp.inf)

    most = min(MOST, boxes.shape[1])
    count = jnp.sum(lax.top_k(overlap, most)[0], axis=-1)
    count = jnp.maximum(count.astype(jnp.int32), 1)
    least, chosen = lax.top_k(-cost, most)  # (B, N, most): the first of equal ones first
    taken = (jnp.arange(most)[None, None] < count[..., None]) & (least > -jnp.inf)
    claims = jnp.zeros(cost.shape, bool)
    batch, row = jnp.indices(chosen.shape[:2])
    claims = claims.at[batch[..., None], row[..., None], chosen].max(taken)

    owner = jnp.argmin(jnp.where(claims, cost, jnp.inf), axis=1).astype(jnp.int32)
    positive = jnp.any(claims, axis=1)
    own = jnp.take_along_axis(overlap, owner[:, None], axis=1)[:, 0]
    return Assigned(positive, jnp.where(positive, owner, 0), jnp.where(positive, own, 0))


def _places(
    centres: jax.Array, strides: jax.Array, truth: jax.Array, valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(B, N, A) bool each: cells with their centre inside a truth, inside its centre region."""
    x, y = centres[None, None, :, 0], centres[None, None, :, 1]
    x0, y0, x1, y1 = (truth[..., i, None] for i in range(4))
    in_box = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    reach = RADIUS * strides[None, None]
    near_x = jnp.abs(x - (x0 + x1) / 2) < reach
    near_y = jnp.abs(y - (y0 + y1) / 2) < reach
    return in_box & valid[..., None], near_x & near_y & valid[..., None]


def class_cost(objectness: jax.Array, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """(B, N, A): binary cross-entropies of sqrt(class * objectness) with each truth's class, added.

    Args:
        objectness: (B, A) logits.
        logits: (B, A, C).
        labels: (B, N) int32.
    """
    log_p = (jax.nn.log_sigmoid(logits) + jax.nn.log_sigmoid(objectness)[..., None]) / 2
    # -log(1 - p), bounded as -log p is: p is 1 to the last digit where both logits are large.
    other = -jnp.log(jnp.maximum(-jnp.expm1(log_p), 1e-12))
    gain = jnp.moveaxis(-log_p - other, -1, 1)  # (B, C, A)
    of_label = jnp.take_along_axis(gain, labels[..., None], axis=1)  # (B, N, A)
    return jnp.sum(other, axis=-1)[:, None] + of_label
