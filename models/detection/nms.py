"""Greedy non-maximum suppression in fixed shapes: one box picked, its rivals dropped, and again."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.detection.boxes import area, wide


class Kept(NamedTuple):
    """What suppression leaves of N boxes, in the order of (-score, index)."""

    indices: jax.Array
    """(limit,) int32; 0 in rows that are not valid."""
    valid: jax.Array
    """(limit,) bool: True in the first rows, as many as are kept."""


def nms(
    boxes: jax.Array, scores: jax.Array, valid: jax.Array, *, threshold: float, limit: int
) -> Kept:
    """Of boxes that overlap, the one with the highest score.

    For one image; `jax.vmap` takes it over many. The indices are those of `torchvision.ops.nms` on
    a CPU, in every case but coordinates so small that areas are below float32's normal numbers.
    No gradient passes.

    Args:
        boxes: (N, 4), x0 y0 x1 y1.
        scores: (N,), any real type; of equal ones the first in order is kept.
        valid: (N,) bool: the others are neither kept nor drop any.
        threshold: a box is dropped whose IoU with one kept before is larger than that, from 0 to 1.
        limit: most boxes that are kept; the time grows with its product with N.

    Raises:
        ValueError: `threshold` or `limit` is outside its range; shapes do not agree.
    """
    labels = jnp.zeros(jnp.shape(scores), jnp.int32)
    return class_nms(boxes, scores, labels, valid, threshold=threshold, limit=limit)


def class_nms(
    boxes: jax.Array,
    scores: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    threshold: float,
    limit: int,
) -> Kept:
    """`nms` within each class, the boxes of all classes together in one order.

    Boxes of two classes never drop one another, whatever their coordinates: no offsets are added.

    Args:
        boxes, scores, valid, threshold, limit: as in `nms`.
        labels: (N,) integers.

    Raises:
        ValueError: as `nms`.
    """
    boxes = jax.lax.stop_gradient(wide(boxes))
    count = len(boxes)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold} must be from 0 to 1")
    if limit < 1:
        raise ValueError(f"limit={limit} must be at least 1")
    shapes = [jnp.shape(x) for x in (boxes, scores, labels, valid)]
    if shapes != [(count, 4), *[(count,)] * 3]:
        raise ValueError(f"boxes, scores, labels, valid of shapes {shapes}: they are no N boxes")
    if not count:
        return Kept(jnp.zeros(limit, jnp.int32), jnp.zeros(limit, bool))
    order = jnp.argsort(jax.lax.stop_gradient(scores), stable=True, descending=True)
    x0, y0, x1, y1 = boxes[order].T
    labels = labels[order]
    areas = area(boxes)[order]
    largest = jnp.max(jnp.where(areas > 0, areas, 0))
    bound = floor(threshold, boxes.dtype)
    places = jnp.arange(count, dtype=jnp.int32)
    # The place of each box that may yet be kept, and `count` for the others.
    alive = jnp.where(valid[order], places, count)

    def more(carry):
        at, _, _, first = carry
        return (at < limit) & (first < count)

    def pick(carry):
        at, kept, alive, first = carry
        width = jnp.minimum(x1[first], x1) - jnp.maximum(x0[first], x0)
        height = jnp.minimum(y1[first], y1) - jnp.maximum(y0[first], y0)
        # No intersection is larger than the largest box. A compiler does not know: it cannot
        # contract product and difference into one operation, which would round once, not twice.
        inner = jnp.minimum(jnp.maximum(width, 0) * jnp.maximum(height, 0), largest)
        share = inner / (areas[first] + areas - inner)
        rival = (share > bound) & (labels == labels[first])
        alive = jnp.where(rival | (places == first), count, alive)
        return at + 1, kept.at[at].set(first), alive, jnp.min(alive)

    start = jnp.int32(0), jnp.zeros(limit, jnp.int32), alive, jnp.min(alive)
    number, kept, *_ = jax.lax.while_loop(more, pick, start)
    there = jnp.arange(limit, dtype=jnp.int32) < number
    return Kept(jnp.where(there, order[kept].astype(jnp.int32), 0), there)


def floor(threshold: float, dtype: np.dtype) -> np.ndarray:
    """The largest number of the type that is not above the threshold.

    torchvision compares an IoU of the boxes' type with a double: larger than the double is the same
    as larger than this.
    """
    near = np.asarray(threshold, dtype)
    return near if float(near) <= threshold else np.nextafter(near, np.asarray(-np.inf, dtype))
