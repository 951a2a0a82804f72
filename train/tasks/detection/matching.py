"""Which object each anchor is to find, by thresholds of their overlap."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Matches(NamedTuple):
    """What becomes of each of A anchors; one that is neither positive nor negative is ignored."""

    indices: jax.Array
    """(…, A) int32: the object that it overlaps most, the first of equals; 0 if there is none."""
    positive: jax.Array
    """(…, A) bool: it is to find that object."""
    negative: jax.Array
    """(…, A) bool: it is background."""


def match(
    iou: jax.Array, valid: jax.Array, *, high: float, low: float, best_for_each: bool
) -> Matches:
    """Anchors to objects as Faster R-CNN does it (Ren et al. 2015, section 3.1.2).

    Region proposals take high 0.7, low 0.3 with the best for each; RetinaNet 0.5, 0.4 with it; the
    box head 0.5, 0.5 without. As torchvision's `Matcher`, but an image may have no object (all is
    background), and the best anchors of an object are none where it overlaps no anchor at all
    (there they would be all that do not overlap it).

    Args:
        iou: (…, N, A) of objects and anchors.
        valid: (…, N) bool; rows of padding are never matched.
        high: an anchor is positive from this overlap on.
        low: and negative below this.
        best_for_each: the anchors that overlap an object most, all of equals, are positive too, for
            the object that they themselves overlap most.

    Raises:
        ValueError: `low` is above `high`, or not above 0.
    """
    if not 0 < low <= high:
        raise ValueError(f"low={low}, high={high}: 0 < low <= high is needed")
    if not iou.shape[-2]:
        background = jnp.ones((*iou.shape[:-2], iou.shape[-1]), bool)
        return Matches(jnp.zeros(background.shape, jnp.int32), ~background, background)
    overlaps = jnp.where(valid[..., None], jax.lax.stop_gradient(iou), -1)
    most = jnp.max(overlaps, axis=-2)
    positive, negative = most >= high, most < low
    if best_for_each:
        best = jnp.max(overlaps, axis=-1, keepdims=True)
        chosen = jnp.any((overlaps == best) & (best > 0), axis=-2)
        positive, negative = positive | chosen, negative & ~chosen
    indices = jnp.where(most >= 0, jnp.argmax(overlaps, axis=-2), 0)
    return Matches(indices.astype(jnp.int32), positive, negative)
